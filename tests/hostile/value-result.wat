;; Returns a result that is neither ok nor error.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 16) "\02\09")
    (func (export "f") (result i32) (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (result u8 (error u8)))
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
