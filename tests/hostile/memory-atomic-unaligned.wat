;; Uses an atomic instruction at an address that is not aligned.
;; call: f()
;; is: TRAP ran-and-failed unaligned atomic
(module
  (memory 1)
  (func (export "f") (result i32) (i32.atomic.load (i32.const 1))))
