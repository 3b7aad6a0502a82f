;; An async function returns twice.
;; call: f()
;; is: TRAP ran-and-failed
(component
  (core func $return (canon task.return (result u32)))
  (core module $m
    (import "" "return" (func $return (param i32)))
    (func (export "f") (result i32) (call $return (i32.const 1)) (call $return (i32.const 2)) (i32.const 0))
    (func (export "cb") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m (with "" (instance (export "return" (func $return))))))
  (func (export "f") async (result u32) (canon lift (core func $i "f") async (callback (func $i "cb")))))
