;; Divides by zero.
;; call: f()
;; is: TRAP ran-and-failed integer divide by zero
(module
  (func (export "f") (result i32) (i32.div_u (i32.const 1) (i32.const 0))))
