;; Writes to standard error forever.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed output 262144
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "f") (result i32)
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 60000))
    (loop $again (br_if $again (i32.eqz (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))))
    unreachable))
