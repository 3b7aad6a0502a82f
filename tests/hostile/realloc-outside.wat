;; Its `realloc` returns an address outside of its memory.
;; call: f([1, 2, 3])
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
    (func (export "f") (param i32 i32) ))
  (core instance $i (instantiate $m))
  (func (export "f") (param "a" (list u64))
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
