;; Has an element segment outside of its table.
;; call: f()
;; is: TRAP ran-and-failed out of bounds table access
(module
  (table 1 funcref)
  (elem (i32.const 1) $g)
  (func $g)
  (func (export "f")))
