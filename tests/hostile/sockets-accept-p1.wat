;; Accepts a connection on each descriptor.
;; call: f()
;; is: result 8
(module
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f") (result i32) (local i32)
    (loop $again
      (local.set 0 (i32.add (local.get 0) (i32.const 1)))
      (drop (call $accept (local.get 0) (i32.const 0) (i32.const 0)))
      (br_if $again (i32.lt_u (local.get 0) (i32.const 100))))
    (call $accept (i32.const 100) (i32.const 0) (i32.const 0))))
