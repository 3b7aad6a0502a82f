;; Its destructor traps.
;; call: f()
;; is: TRAP ran-and-failed unreachable
(component
  (core module $d (func (export "d") (param i32) unreachable))
  (core instance $d (instantiate $d))
  (type $r (resource (rep i32) (dtor (func $d "d"))))
  (core func $new (canon resource.new $r))
  (core func $drop (canon resource.drop $r))
  (core module $m
    (import "" "new" (func $new (param i32) (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "f") (call $drop (call $new (i32.const 1)))))
  (core instance $i (instantiate $m (with "" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
  (func (export "f") (canon lift (core func $i "f"))))
