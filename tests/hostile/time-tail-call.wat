;; Calls itself in tail position forever: it needs no stack.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (func $f (export "f") (return_call $f)))
