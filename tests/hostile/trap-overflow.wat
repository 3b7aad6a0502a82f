;; Divides the smallest number by minus one.
;; call: f()
;; is: TRAP ran-and-failed integer overflow
(module
  (func (export "f") (result i32) (i32.div_s (i32.const 0x80000000) (i32.const -1))))
