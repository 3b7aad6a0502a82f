;; Gives up the processor forever.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (func (export "f") (loop $again (drop (call $yield)) (br $again))))
