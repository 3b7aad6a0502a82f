;; Imports a function whose name has control characters.
;; call: f()
;; is: IMPORT_UNSATISFIED not-started
(module
  (import "\1b[2J\0d" "\07\e2\80\ae" (func))
  (func (export "f")))
