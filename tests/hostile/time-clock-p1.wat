;; Reads the clock forever, so it spends its time in the host.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f")
    (loop $again (drop (call $now (i32.const 1) (i64.const 0) (i32.const 0))) (br $again))))
