;; Writes bytes that lie outside of its memory.
;; call: f()
;; is: TRAP ran-and-failed out of bounds
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f") (result i32)
    (i32.store (i32.const 0) (i32.const -16))
    (i32.store (i32.const 4) (i32.const 64))
    (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
