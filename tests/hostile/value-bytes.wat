;; Returns 200 MiB.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 160.0 MiB
(component
  (core module $m
    (memory (export "memory") 3300)
    (func (export "f") (result i32) (local $i i32)

      (i32.store (i32.const 16) (i32.const 1024))
      (i32.store (i32.const 20) (i32.const 209715200))
      (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (list u8))
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
