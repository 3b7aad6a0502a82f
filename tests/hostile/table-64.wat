;; Declares a 64-bit table of 2^40 elements.
;; call: f()
;; is: LIMIT_EXCEEDED not-started table 100000
(module
  (table i64 0x10000000000 funcref)
  (func (export "f")))
