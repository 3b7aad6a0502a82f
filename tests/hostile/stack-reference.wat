;; Calls itself through a reference without end.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 512 KiB of stack
(module
  (type $t (func (result i32)))
  (elem declare func $f)
  (func $f (export "f") (type $t) (i32.add (i32.const 1) (call_ref $t (ref.func $f)))))
