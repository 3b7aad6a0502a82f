;; Shares its memory between threads.
;; upload: MODULE_INVALID threads
(module
  (memory 1 1 shared)
  (func (export "f")))
