;; Its start function calls itself without end.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 512 KiB of stack
(module
  (func $s (call $s) (call $s))
  (start $s)
  (func (export "f")))
