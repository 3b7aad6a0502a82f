;; Exits in a function with the largest status.
;; call: f()
;; is: GUEST_EXIT ran-and-failed -1
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "f") (call $exit (i32.const -1))))
