;; Returns lists of the requested length: bytes, empty strings, options, bools.
(component
  (core module $m
    (memory (export "m") 3800)
    (func (export "r") (param i32 i32 i32 i32) (result i32) (i32.const 64))
    (func (export "f") (param i32) (result i32) (i32.store (i32.const 8) (i32.const 65536)) (i32.store (i32.const 12) (local.get 0)) (i32.const 8)))
  (core instance $i (instantiate $m))
  (func (export "bytes") (param "n" u32) (result (list u8)) (canon lift (core func $i "f") (memory (core memory $i "m")) (realloc (core func $i "r"))))
  (func (export "strs") (param "n" u32) (result (list string)) (canon lift (core func $i "f") (memory (core memory $i "m")) (realloc (core func $i "r"))))
  (func (export "opts") (param "n" u32) (result (list (option (tuple u8 u8)))) (canon lift (core func $i "f") (memory (core memory $i "m")) (realloc (core func $i "r"))))
  (func (export "bools") (param "n" u32) (result (list bool)) (canon lift (core func $i "f") (memory (core memory $i "m")) (realloc (core func $i "r"))))
)
