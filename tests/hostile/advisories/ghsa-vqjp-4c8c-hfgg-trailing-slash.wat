;; GHSA-vqjp-4c8c-hfgg: a guest left its folder through a symbolic link when the path, or the target of the link, ended with a
;; slash. In the folder, `up` links to `..`, `up-slash` to `../`, and `root` to `/`.
;; run folder(0, 3) = 63
;; run folder(16, 8) = 63
;; run folder(16, 9) = 63
;; run folder(32, 5) = 63
;; run folder(48, 3) = 63
;; run folder(64, 5) = 63
;; run folder(80, 6) = 63
;; run below(0, 3) = 63
;; run below(16, 9) = 63
;; run below(32, 5) = 63
;; run make(0, 3) = 63
;; run make(16, 9) = 63
;; run folder(96, 2) = 0
(module
  (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $create (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "up/fixed")
  (data (i32.const 16) "up-slash/fixed")
  (data (i32.const 32) "root/etc")
  (data (i32.const 48) "../")
  (data (i32.const 64) "./../")
  (data (i32.const 80) "up/../")
  (data (i32.const 96) "./")
  (func (export "folder") (param $at i32) (param $length i32) (result i32)
    (call $open (i32.const 3) (i32.const 1) (local.get $at) (local.get $length) (i32.const 2)
      (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 1024)))
  ;; The name of a folder follows each path.
  (func (export "below") (param $at i32) (param $length i32) (result i32)
    (call $stat (i32.const 3) (i32.const 1) (local.get $at) (i32.add (local.get $length) (i32.const 3)) (i32.const 1024)))
  (func (export "make") (param $at i32) (param $length i32) (result i32)
    (call $create (i32.const 3) (local.get $at) (i32.add (local.get $length) (i32.const 3)))))
