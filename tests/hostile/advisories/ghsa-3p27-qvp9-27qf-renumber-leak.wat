;; GHSA-3p27-qvp9-27qf: `fd_renumber` of WASI preview 1 did not close the file whose descriptor it gave away. A guest used up
;; the descriptors of its host although it had one file open.
;; run f(3000) = 0
(module
  (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "file")
  (func $file (result i32)
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)) (then unreachable))
    (i32.load (i32.const 8)))
  (func (export "f") (param $times i32) (result i32) (local $open i32) (local $next i32)
    (local.set $open (call $file))
    (loop $again
      (local.set $next (call $file))
      (if (call $renumber (local.get $open) (local.get $next)) (then unreachable))
      (local.set $open (local.get $next))
      (local.set $times (i32.sub (local.get $times) (i32.const 1)))
      (br_if $again (local.get $times)))
    (i32.const 0)))
