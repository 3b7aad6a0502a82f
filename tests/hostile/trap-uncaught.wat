;; Throws an exception that nobody catches.
;; call: f()
;; is: TRAP ran-and-failed exception
(module
  (tag $e (param i32))
  (func (export "f") (throw $e (i32.const 1))))
