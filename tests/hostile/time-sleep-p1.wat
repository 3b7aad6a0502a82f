;; Sleeps for ten minutes with `poll_oneoff`.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f") (result i32)
    ;; A subscription to the monotonic clock: its id at 16, the time in nanoseconds at 24.
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 600000000000))
    (call $poll (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 128))))
