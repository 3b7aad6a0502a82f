;; Returns a case that its enum does not have.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (type $e' (enum "a" "b" "c")) (export $e "e" (type $e'))
  (core module $m
    (memory (export "memory") 1)
    (func (export "f") (result i32) (i32.const 3)))
  (core instance $i (instantiate $m))
  (func (export "f") (result $e)
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
