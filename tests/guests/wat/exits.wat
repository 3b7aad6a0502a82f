;; In: an exit status, for `_start` and `leave`. Out: each function ends in the way that its name says.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; A program. Its argument is the exit status, a signed decimal number. Without an argument it returns.
  (func (export "_start")
    (local $at i32) (local $sign i32) (local $status i32) (local $letter i32)
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (if (i32.lt_u (i32.load (i32.const 0)) (i32.const 2)) (then (return)))
    (drop (call $args (i32.const 16) (i32.const 64)))
    (local.set $at (i32.load (i32.const 20)))
    (local.set $sign (i32.const 1))
    (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 45))
      (then (local.set $sign (i32.const -1)) (local.set $at (i32.add (local.get $at) (i32.const 1)))))
    (block $end
      (loop $next
        (local.set $letter (i32.load8_u (local.get $at)))
        (br_if $end (i32.eqz (local.get $letter)))
        (local.set $status
          (i32.add (i32.mul (local.get $status) (i32.const 10)) (i32.sub (local.get $letter) (i32.const 48))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (call $exit (i32.mul (local.get $status) (local.get $sign))))
  (func (export "leave") (param i32) (result i32) (call $exit (local.get 0)) (i32.const 7))
  (func (export "two") (result i32) (i32.const 2))
  (func (export "trap") (unreachable))
  (func (export "spin") (loop $again (br $again)))
  (func (export "grow") (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then (unreachable)))))
