;; Yields and is called back for ever.
;; call: f()
;; is: TIMEOUT ran-and-failed
(component
  (core module $m
    (func (export "f") (result i32) (i32.const 1))
    (func (export "cb") (param i32 i32 i32) (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "f") async (canon lift (core func $i "f") async (callback (func $i "cb")))))
