;; Imports a function that no node offers.
;; call: f()
;; is: IMPORT_UNSATISFIED not-started environment.launch
(module
  (import "environment" "launch" (func (param i32)))
  (func (export "f")))
