;; Returns 130 MiB: few enough for its host, too many to send to another node.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 128.0 MiB
;; here: no
(component
  (core module $m
    (memory (export "memory") 2100)
    (func (export "f") (result i32) 
      (i32.store (i32.const 16) (i32.const 1024))
      (i32.store (i32.const 20) (i32.const 0x8200000))
      (i32.const 16)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (list u8))
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
