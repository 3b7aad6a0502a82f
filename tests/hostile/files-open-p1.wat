;; Opens the same file until no more can be opened, and keeps all of them open.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed resources of its host
(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "file")
  (func (export "f")
    (loop $again
      (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 0)
          (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)) (then unreachable))
      (br $again))))
