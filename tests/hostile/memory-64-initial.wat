;; Declares a 64-bit memory of 16 TiB.
;; call: f()
;; is: LIMIT_EXCEEDED not-started memory
(module
  (memory i64 0x10000000)
  (func (export "f")))
