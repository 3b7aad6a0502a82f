;; Returns a list of numbers at an address that is not aligned.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 16) "\19\00\00\00\01\00\00\00")
    (func (export "f") (result i32) (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (list u32))
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
