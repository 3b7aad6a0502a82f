;; Returns a UTF-16 string whose size in bytes is more than 32 bits.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 16) "\18\00\00\00\ff\ff\ff\ff")
    (func (export "f") (result i32) (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "f") (result string)
    (canon lift (core func $i "f") (memory (core memory $i "memory")) string-encoding=utf16)))
