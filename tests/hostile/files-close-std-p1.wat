;; Closes its standard streams and its folder, then writes.
;; call: f()
;; is: result 8
(module
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f") (result i32)
    (drop (call $close (i32.const 0))) (drop (call $close (i32.const 1)))
    (drop (call $close (i32.const 2))) (drop (call $close (i32.const 3)))
    (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
