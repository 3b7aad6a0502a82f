;; Asks for 128 MiB of random bytes at once.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 128 MiB of random numbers at once
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 2048)
  (func (export "f") (result i32) (call $random (i32.const 0) (i32.const 0x8000000))))
