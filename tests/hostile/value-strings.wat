;; Returns 10 million empty strings.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 160.0 MiB
(component
  (core module $m
    (memory (export "memory") 1300)
    (func (export "f") (result i32) (local $i i32)

      (i32.store (i32.const 16) (i32.const 1024))
      (i32.store (i32.const 20) (i32.const 10000000))
      (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (list string))
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
