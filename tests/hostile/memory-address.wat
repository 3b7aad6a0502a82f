;; Reads past the end of its memory, with an offset that overflows 32 bits.
;; call: f()
;; is: TRAP ran-and-failed out of bounds memory access
(module
  (memory 1)
  (func (export "f") (result i32) (i32.load offset=0xffffffff (i32.const -1))))
