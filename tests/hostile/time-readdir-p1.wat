;; Lists a folder forever.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (import "wasi_snapshot_preview1" "fd_readdir" (func $list (param i32 i32 i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f")
    (loop $again (drop (call $list (i32.const 3) (i32.const 64) (i32.const 4096) (i64.const 0) (i32.const 0))) (br $again))))
