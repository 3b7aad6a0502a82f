;; Returns 10,000 strings that all lie at the same place: 600 MiB.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 160.0 MiB
(component
  (core module $m
    (memory (export "memory") 4)
    (func (export "f") (result i32) (local $i i32)
      (loop $again
        (i32.store offset=1024 (i32.shl (local.get $i) (i32.const 3)) (i32.const 131072))
        (i32.store offset=1028 (i32.shl (local.get $i) (i32.const 3)) (i32.const 60000))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 10000))))
      (i32.store (i32.const 16) (i32.const 1024))
      (i32.store (i32.const 20) (i32.const 10000))
      (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (list string))
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
