;; In: standard input. Out: the errno of one read from it, or -1 at the end of the input.
(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\20\00\00\00\10\00\00\00")
  (func (export "errno") (result i32)
    (local $errno i32)
    (local.set $errno (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (if (i32.and (i32.eqz (local.get $errno)) (i32.eqz (i32.load (i32.const 8))))
      (then (return (i32.const -1))))
    (local.get $errno)))
