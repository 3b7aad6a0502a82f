;; Calls itself inside a handler for exceptions without end.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 512 KiB of stack
(module
  (tag $e)
  (func $f (export "f") (block $caught (try_table (catch_all $caught) (call $f) (throw $e)))))
