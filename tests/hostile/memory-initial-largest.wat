;; Declares 4 GiB of memory, the most that 32 bits can address.
;; call: f()
;; is: LIMIT_EXCEEDED not-started memory 4.0 GiB
(module
  (memory 65536)
  (func (export "f")))
