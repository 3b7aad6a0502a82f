;; Calls an empty element of its table.
;; call: f()
;; is: TRAP ran-and-failed uninitialized element
(module
  (type $t (func))
  (table 1 funcref)
  (func (export "f") (call_indirect (type $t) (i32.const 0))))
