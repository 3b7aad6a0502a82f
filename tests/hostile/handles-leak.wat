;; Creates resources of its own and never drops them.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 10000 resource handles
(component
  (type $r (resource (rep i32)))
  (core func $new (canon resource.new $r))
  (core func $rep (canon resource.rep $r))
  (core func $drop (canon resource.drop $r))
  (core module $m
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "rep" (func $rep (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "f") (loop $again (drop (call $new (i32.const 1))) (br $again))))
  (core instance $i (instantiate $m (with "" (instance
    (export "new" (func $new)) (export "rep" (func $rep)) (export "drop" (func $drop))))))
  (func (export "f") (canon lift (core func $i "f"))))
