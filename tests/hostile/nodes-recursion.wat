;; Calls itself through its node, as deep as its node allows.
;; call: f()
;; is: result 0
(component
  (import "gvm:node/nodes@0.1.0" (instance $nodes
    (type $effect' (enum "not-started" "ran-and-failed" "unknown"))
    (export "effect" (type $effect (eq $effect')))
    (type $error' (record (field "code" string) (field "message" string) (field "outcome" $effect)))
    (export "error" (type $error (eq $error')))
    (export "self" (func (result string)))
    (export "run" (func (param "name" string) (param "call" string) (result (result (option string) (error $error)))))))
  (core module $libc
    (memory (export "memory") 16)
    (global $free (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      ;; Starts again before the end, so that it never runs out.
      (if (i32.gt_u (global.get $free) (i32.const 900000)) (then (global.set $free (i32.const 65536))))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (core func $self (canon lower (func $nodes "self") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core func $run (canon lower (func $nodes "run") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core module $m
    (import "" "memory" (memory 16))
    (import "" "self" (func $self (param i32)))
    (import "" "run" (func $run (param i32 i32 i32 i32 i32)))
    (data (i32.const 64) "nodes-recursion.f()")
    (func $again
      (call $self (i32.const 0))
      (call $run (i32.load (i32.const 0)) (i32.load (i32.const 4)) (i32.const 64) (i32.const 19) (i32.const 512)))
    (func (export "f") (result i32) (call $again) (i32.const 0)))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $libc "memory")) (export "self" (func $self)) (export "run" (func $run))))))
  (func (export "f") (result u32) (canon lift (core func $i "f"))))
