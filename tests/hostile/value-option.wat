;; Returns an option that is neither none nor some.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 16) "\02\09")
    (func (export "f") (result i32) (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (option u8))
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
