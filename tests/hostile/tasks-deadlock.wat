;; Waits for a set of events that is empty.
;; call: f()
;; is: TRAP ran-and-failed deadlock
(component
  (core func $new (canon waitable-set.new))
  (core module $m
    (import "" "new" (func $new (result i32)))
    (func (export "f") (result i32) (i32.or (i32.const 2) (i32.shl (call $new) (i32.const 4))))
    (func (export "cb") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
  (func (export "f") async (canon lift (core func $i "f") async (callback (func $i "cb")))))
