;; Reads at the end of the 64-bit address space.
;; call: f()
;; is: TRAP ran-and-failed out of bounds memory access
(module
  (memory i64 1)
  (func (export "f") (result i32) (i32.load offset=16 (i64.const -8))))
