;; An async function ends without a result.
;; call: f()
;; is: TRAP ran-and-failed
(component
  (core module $m
    (func (export "f") (result i32) (i32.const 0))
    (func (export "cb") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m))
  (func (export "f") async (result u32) (canon lift (core func $i "f") async (callback (func $i "cb")))))
