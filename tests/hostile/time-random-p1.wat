;; Asks for 32 MiB of random bytes again and again.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 2048)
  (func (export "f")
    (loop $again (drop (call $random (i32.const 0) (i32.const 0x2000000))) (br $again))))
