;; Returns a map whose entries lie outside of its memory.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $m (memory (export "memory") 1) (data (i32.const 8) "\00\00\01\00\01\00\00\00")
    (func (export "f") (result i32) (i32.const 8)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (map string u32)) (canon lift (core func $i "f") (memory (core memory $i "memory")))))
