;; Its `realloc` always returns the same place, so its strings overlap.
;; call: f(["ab", "cd"])
;; is: result
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "f") (param i32 i32) ))
  (core instance $i (instantiate $m))
  (func (export "f") (param "a" (list string))
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
