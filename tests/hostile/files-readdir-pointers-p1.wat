;; Lists a folder into memory that it does not have.
;; call: f()
;; is: TRAP ran-and-failed out of bounds
(module
  (import "wasi_snapshot_preview1" "fd_readdir" (func $list (param i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f") (result i32)
    (call $list (i32.const 3) (i32.const -16) (i32.const -1) (i64.const 0) (i32.const 0))))
