;; Its start function traps.
;; call: f()
;; is: TRAP ran-and-failed unreachable
(module
  (func $start unreachable)
  (start $start)
  (func (export "f")))
