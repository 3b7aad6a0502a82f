;; Its `realloc` loops forever.
;; call: f([1, 2, 3])
;; is: TIMEOUT ran-and-failed
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop $again (br $again)) unreachable)
    (func (export "f") (param i32 i32) ))
  (core instance $i (instantiate $m))
  (func (export "f") (param "a" (list u64))
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
