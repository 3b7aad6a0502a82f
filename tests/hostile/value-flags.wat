;; Returns flags with unknown bits, which the canonical ABI ignores.
;; call: f()
;; is: result {a, b}
(component
  (type $g' (flags "a" "b")) (export $g "g" (type $g'))
  (core module $m
    (memory (export "memory") 1)
    (func (export "f") (result i32) (i32.const -1)))
  (core instance $i (instantiate $m))
  (func (export "f") (result $g)
    (canon lift (core func $i "f") (memory (core memory $i "memory")))))
