;; An async function returns a text that lies outside of its memory.
;; call: f()
;; is: TRAP ran-and-failed canonical ABI
(component
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (core func $return (canon task.return (result string) (memory $mem)))
  (core module $m
    (import "" "return" (func $return (param i32 i32)))
    (func (export "f") (result i32) (call $return (i32.const 65530) (i32.const 100)) (i32.const 0))
    (func (export "cb") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m (with "" (instance (export "return" (func $return))))))
  (func (export "f") async (result string) (canon lift (core func $i "f") async (callback (func $i "cb")) (memory $mem))))
