;; Declares 2 GiB of memory.
;; call: f()
;; is: LIMIT_EXCEEDED not-started memory 2.0 GiB
(module
  (memory 32768)
  (func (export "f")))
