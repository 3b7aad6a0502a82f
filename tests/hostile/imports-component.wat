;; Imports an interface that no node offers.
;; call: f()
;; is: IMPORT_UNSATISFIED not-started wasi:http/types@0.2.0
(component
  (import "wasi:http/types@0.2.0" (instance (export "g" (func))))
  (core module $m (func (export "f")))
  (core instance $i (instantiate $m))
  (func (export "f") (canon lift (core func $i "f"))))
