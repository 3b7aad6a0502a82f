;; Raises a signal, which WASI does not support.
;; call: f()
;; is: result 58
(module
  (import "wasi_snapshot_preview1" "proc_raise" (func $raise (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f") (result i32) (call $raise (i32.const 9))))
