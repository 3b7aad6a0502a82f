;; Returns a case that its variant does not have.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (type $v' (variant (case "a") (case "b" string))) (export $v "v" (type $v'))
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 16) "\ff")
    (func (export "f") (result i32) (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "f") (result $v)
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
