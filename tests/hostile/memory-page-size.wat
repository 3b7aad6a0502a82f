;; Has pages of one byte.
;; upload: MODULE_INVALID custom page sizes
(module
  (memory 1 (pagesize 1))
  (func (export "f")))
