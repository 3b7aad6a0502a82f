;; Declares a table of ten million elements.
;; call: f()
;; is: LIMIT_EXCEEDED not-started table 100000
(module
  (table 10000000 funcref)
  (func (export "f")))
