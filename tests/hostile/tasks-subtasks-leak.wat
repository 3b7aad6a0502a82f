;; Begins to wait for a clock, again and again.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 10000 resource handles
(component
  (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock (export "wait-for" (func async (param "how-long" u64)))))
  (core func $wait (canon lower (func $clock "wait-for") async))
  (core func $return (canon task.return))
  (core module $m
    (import "" "wait" (func $wait (param i64) (result i32)))
    (func (export "f") (result i32) (loop $again (drop (call $wait (i64.const 3600000000000))) (br $again)) (i32.const 0))
    (func (export "cb") (param i32 i32 i32) (result i32) unreachable))
  (core instance $i (instantiate $m (with "" (instance (export "wait" (func $wait))))))
  (func (export "f") async (canon lift (core func $i "f") async (callback (func $i "cb")))))
