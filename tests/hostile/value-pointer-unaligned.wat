;; Returns a pointer that is not aligned.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "f") (result i32) (i32.const 2)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (tuple u32 u32))
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
