;; Two functions call each other without end.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed 512 KiB of stack
(module
  (func $g (result i32) (i32.add (i32.const 1) (call $f)))
  (func $f (export "f") (result i32) (i32.add (i32.const 1) (call $g))))
