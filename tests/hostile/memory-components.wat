;; Grows the memories of two core instances. Each stays small; their sum is too large.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed memory 256.0 MiB
(component
  (core module $m
    (memory (export "memory") 2000)
    (func (export "g") (result i32) (memory.grow (i32.const 60))))
  (core instance $a (instantiate $m))
  (core instance $b (instantiate $m))
  (core module $main
    (import "a" "g" (func $a (result i32)))
    (import "b" "g" (func $b (result i32)))
    (func (export "f")
      (loop $again
        (drop (call $a))
        (br_if $again (i32.ne (call $b) (i32.const -1))))
      unreachable))
  (core instance $main (instantiate $main (with "a" (instance $a)) (with "b" (instance $b))))
  (func (export "f") (canon lift (core func $main "f"))))
