;; Its `realloc` grows the memory until that fails, then traps.
;; call: f([1, 2, 3])
;; is: LIMIT_EXCEEDED ran-and-failed memory 256.0 MiB
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) 
      (loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
      unreachable)
    (func (export "f") (param i32 i32) ))
  (core instance $i (instantiate $m))
  (func (export "f") (param "a" (list u64))
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
