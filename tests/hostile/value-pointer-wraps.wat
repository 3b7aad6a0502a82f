;; Returns a pointer whose end is more than 32 bits.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "f") (result i32) (i32.const -4)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (tuple u32 u32))
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
