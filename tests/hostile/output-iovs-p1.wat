;; Writes 100,000 pieces, which overlap, with one call: 6 GB.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed output 262144
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 14)
  (func (export "f") (result i32) (local $i i32)
    (loop $again
      (i32.store offset=1024 (i32.shl (local.get $i) (i32.const 3)) (i32.const 16))
      (i32.store offset=1028 (i32.shl (local.get $i) (i32.const 3)) (i32.const 60000))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 100000))))
    (loop $again (br_if $again (i32.eqz (call $write (i32.const 1) (i32.const 1024) (i32.const 100000) (i32.const 8)))))
    unreachable))
