;; Its `realloc` calls itself without end while the host passes a list.
;; call: f([1, 2, 3])
;; is: LIMIT_EXCEEDED ran-and-failed 512 KiB of stack
(component
  (core module $m
    (memory (export "memory") 1)
    (func $r (export "realloc") (param i32 i32 i32 i32) (result i32)
      (i32.add (i32.const 8) (call $r (local.get 0) (local.get 1) (local.get 2) (local.get 3))))
    (func (export "f") (param i32 i32)))
  (core instance $i (instantiate $m))
  (func (export "f") (param "a" (list u64))
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
