;; Calls itself through a table in tail position forever.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (type $t (func))
  (table funcref (elem $f))
  (func $f (export "f") (return_call_indirect (type $t) (i32.const 0))))
