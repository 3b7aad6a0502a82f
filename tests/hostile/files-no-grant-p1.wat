;; Opens a file without a folder.
;; call: f()
;; is: result 8
(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "/etc/passwd")
  (func (export "f") (result i32)
    (call $open (i32.const 4) (i32.const 0) (i32.const 16) (i32.const 11) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 0))))
