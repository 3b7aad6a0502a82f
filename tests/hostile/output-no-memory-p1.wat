;; Calls WASI without an exported memory.
;; call: f()
;; is: TRAP ran-and-failed
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (func (export "f") (result i32)
    (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
