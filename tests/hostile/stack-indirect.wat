;; Calls itself through a table without end.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 512 KiB of stack
(module
  (type $t (func (result i32)))
  (table funcref (elem $f))
  (func $f (export "f") (result i32) (i32.add (i32.const 1) (call_indirect (type $t) (i32.const 0)))))
