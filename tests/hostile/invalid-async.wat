;; Uses the component model of WASI 0.3.
;; upload: MODULE_INVALID WASI 0.3
(component (type (stream u8)))
