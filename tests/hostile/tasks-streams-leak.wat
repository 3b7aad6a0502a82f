;; Creates streams and never drops them.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 10000 resource handles
(component
  (type $s (stream u8))
  (core func $new (canon stream.new $s))
  (core module $m
    (import "" "new" (func $new (result i64)))
    (func (export "f") (loop $again (drop (call $new)) (br $again))))
  (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
  (func (export "f") (canon lift (core func $i "f"))))
