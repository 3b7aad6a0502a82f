;; Reads past the end of an array.
;; call: f()
;; is: TRAP ran-and-failed out of bounds array access
(module
  (type $a (array i32))
  (func (export "f") (result i32) (array.get $a (array.new_default $a (i32.const 3)) (i32.const 3))))
