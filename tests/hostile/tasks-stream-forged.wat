;; Reads from a stream that does not exist.
;; call: f()
;; is: TRAP ran-and-failed
(component
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (type $s (stream u8))
  (core func $read (canon stream.read $s (memory $mem) async))
  (core module $m
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (func (export "f") (drop (call $read (i32.const 77) (i32.const 0) (i32.const 10)))))
  (core instance $i (instantiate $m (with "" (instance (export "read" (func $read))))))
  (func (export "f") (canon lift (core func $i "f"))))
