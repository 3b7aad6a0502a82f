;; Its `_initialize` never returns.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (func (export "_initialize") (loop $again (br $again)))
  (func (export "f")))
