;; Writes to standard output and error in turn forever.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed output 262144
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\00\04\00\00")
  (func (export "f")
    (memory.fill (i32.const 16) (i32.const 120) (i32.const 1024))
    (loop $again
      (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
      (if (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
      (br $again))))
