;; Gives its folder the largest descriptor.
;; call: f()
;; is: result 8
(module
  (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "f") (result i32) (call $renumber (i32.const 3) (i32.const -1))))
