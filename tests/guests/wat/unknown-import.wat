;; Imports a function that the host does not provide.
(module
  (import "environment" "launch" (func $launch (param i32)))
  (func (export "_start") (call $launch (i32.const 1))))
