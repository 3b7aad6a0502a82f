;; Reads from a stream into bytes outside of its memory.
;; call: f()
;; is: TRAP ran-and-failed
(component
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (type $s (stream u8))
  (core func $new (canon stream.new $s))
  (core func $read (canon stream.read $s (memory $mem) async))
  (core module $m
    (import "" "new" (func $new (result i64)))
    (import "" "read" (func $read (param i32 i32 i32) (result i32)))
    (func (export "f") (drop (call $read (i32.wrap_i64 (call $new)) (i32.const 65530) (i32.const 100)))))
  (core instance $i (instantiate $m (with "" (instance (export "new" (func $new)) (export "read" (func $read))))))
  (func (export "f") (canon lift (core func $i "f"))))
