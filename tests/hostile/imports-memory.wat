;; Imports its memory.
;; call: f()
;; is: IMPORT_UNSATISFIED not-started
(module
  (import "env" "memory" (memory 1))
  (func (export "f")))
