;; Has flags without labels.
;; upload: MODULE_INVALID
(component (type $l (flags)))
