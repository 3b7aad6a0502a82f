;; Loops forever without a call or a host function.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (func (export "f") (loop $again (br $again))))
