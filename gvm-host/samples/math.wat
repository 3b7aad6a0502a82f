;; math: a core module that prints with WASI preview 1. The examples in the documentation call it.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "Reponse from the math module...\n")
  (data (i32.const 128) "Adding Numbers From Wasm...\n")

  ;; Writes `len` bytes at `at` to standard output.
  (func $print (param $at i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $len))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))

  (func (export "_start")
    (call $print (i32.const 64) (i32.const 32)))

  (func (export "add") (param $a i32) (param $b i32) (result i32)
    (call $print (i32.const 128) (i32.const 28))
    (i32.add (local.get $a) (local.get $b))))
