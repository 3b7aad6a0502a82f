;; Returns an empty list of numbers at the end of the address space.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 16) "\fc\ff\ff\ff\00\00\00\00")
    (func (export "f") (result i32) (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (list u32))
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
