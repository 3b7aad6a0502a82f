;; Returns a bool of 2, which the canonical ABI reads as true.
;; call: f()
;; is: result true
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "f") (result i32) (i32.const 2)))
  (core instance $i (instantiate $m))
  (func (export "f") (result bool)
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
