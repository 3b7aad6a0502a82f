;; Returns a character past the last one.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "f") (result i32) (i32.const 0x110000)))
  (core instance $i (instantiate $m))
  (func (export "f") (result char)
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
