;; Waits for 20,000 clocks at the same time.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed resources of its host
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (func (export "f") (result i32) (local $i i32) (local $at i32)
    (loop $again
      (local.set $at (i32.mul (local.get $i) (i32.const 48)))
      (i32.store offset=16 (local.get $at) (i32.const 1))
      (i64.store offset=24 (local.get $at) (i64.const 600000000000))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $i) (i32.const 20000))))
    (call $poll (i32.const 0) (i32.const 2000000) (i32.const 20000) (i32.const 0))))
