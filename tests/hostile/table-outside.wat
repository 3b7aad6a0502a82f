;; Calls a function past the end of its table.
;; call: f()
;; is: TRAP ran-and-failed undefined element
(module
  (type $t (func))
  (table 1 funcref)
  (func (export "f") (call_indirect (type $t) (i32.const -1))))
