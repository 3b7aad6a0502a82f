;; Writes 64 KiB, as much as may wait for a reader, and one byte more.
;; call: f()
;; is: result 0
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\10\00\00\00\01\00\01\00")
  (func (export "f") (result i32)
    (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
