;; Takes a string without a `realloc`.
;; upload: MODULE_INVALID realloc
(component
  (core module $m (memory (export "memory") 1) (func (export "f") (param i32 i32)))
  (core instance $i (instantiate $m))
  (func (export "f") (param "a" string) (canon lift (core func $i "f") (memory (core memory $i "memory")))))
