;; What the callers of `tests/soak` run: a sum, a file that exists once the call has run, output, and a call without end.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; At 0 a vector for writing, at 8 what a host call returns, from 64 a line of 64 bytes, before 276 the digits of a name.
  (data (i32.const 64) "a line of sixty-four bytes, which is what the guest prints here\n")

  (func (export "add") (param i64 i64) (result i64)
    (i64.add (local.get 0) (local.get 1)))

  ;; Creates a file with this number as its name in the granted folder. Traps if the file exists, because the call then runs twice.
  (func (export "mark") (param $number i64) (result i64)
    (local $at i32) (local $left i64)
    (local.set $at (i32.const 276))
    (local.set $left (local.get $number))
    (loop $digits
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $left) (i64.const 10)))))
      (local.set $left (i64.div_u (local.get $left) (i64.const 10)))
      (br_if $digits (i64.ne (local.get $left) (i64.const 0))))
    (if (call $open (i32.const 3) (i32.const 0)
          (local.get $at) (i32.sub (i32.const 276) (local.get $at))
          ;; create, and only if it does not exist; the right to write
          (i32.const 5) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 8))
      (then unreachable))
    (drop (call $close (i32.load (i32.const 8))))
    (local.get $number))

  ;; Prints so many lines.
  (func (export "print") (param $lines i32) (result i32)
    (local $at i32) (local $printed i32)
    (loop $next
      (local.set $at (i32.const 0))
      (loop $rest
        (i32.store (i32.const 0) (i32.add (i32.const 64) (local.get $at)))
        (i32.store (i32.const 4) (i32.sub (i32.const 64) (local.get $at)))
        (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
        (br_if $rest (i32.lt_u (local.get $at) (i32.const 64))))
      (local.set $printed (i32.add (local.get $printed) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $printed) (local.get $lines))))
    (local.get $printed))

  (func (export "spin") (loop $always (br $always))))
