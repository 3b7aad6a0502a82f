;; Loops after it has returned its result.
;; call: f()
;; is: TIMEOUT ran-and-failed
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "post") (param i32) (loop $again (br $again)))
    (func (export "f") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "f") (result u32)
    (canon lift (core func $i "f") (memory (core memory $i "memory"))
      (post-return (core func $i "post")))))
