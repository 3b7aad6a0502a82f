;; Calls a function through a table with another type.
;; call: f()
;; is: TRAP ran-and-failed indirect call type mismatch
(module
  (type $t (func (param i64) (result i64)))
  (table funcref (elem $g))
  (func $g)
  (func (export "f") (result i64) (call_indirect (type $t) (i64.const 1) (i32.const 0))))
