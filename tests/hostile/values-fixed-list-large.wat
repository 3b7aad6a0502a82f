;; Returns a list of a fixed length that takes more of the host's memory than a result may.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 160.0 MiB
(component
  (core module $m (memory (export "memory") 200) (func (export "f") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func (export "f") (result (list bool 10000000)) (canon lift (core func $i "f") (memory (core memory $i "memory")))))
