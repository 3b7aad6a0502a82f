;; Its start function never returns, so no instance is ever made.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (func $start (loop $again (br $again)))
  (start $start)
  (func (export "f")))
