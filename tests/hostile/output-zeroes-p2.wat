;; Writes 2^62 zeroes without asking how much it may write.
;; call: f()
;; is: TRAP ran-and-failed
(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-t))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $out (sub resource)))
    (alias outer 1 $error-t (type $e'))
    (export "error" (type $e (eq $e')))
    (type $se' (variant (case "last-operation-failed" (own $e)) (case "closed")))
    (export "stream-error" (type $se (eq $se')))
    (export "[method]output-stream.write" (func
      (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $se)))))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $out)) (param "contents" (list u8)) (result (result (error $se)))))
    (export "[method]output-stream.write-zeroes" (func
      (param "self" (borrow $out)) (param "len" u64) (result (result (error $se)))))))
  (alias export $streams "output-stream" (type $out-t))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (export "output-stream" (type (eq $out-t)))
    (export "get-stdout" (func (result (own $out-t))))))
  (core module $libc (memory (export "memory") 2))
  (core instance $libc (instantiate $libc))
  (core func $get (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.write") (memory (core memory $libc "memory"))))
  (core func $blocking (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $libc "memory"))))
  (core func $zeroes (canon lower (func $streams "[method]output-stream.write-zeroes")
    (memory (core memory $libc "memory"))))
  (core module $m
    (import "" "memory" (memory 2))
    (import "" "get" (func $get (result i32)))
    (import "" "write" (func $write (param i32 i32 i32 i32)))
    (import "" "blocking" (func $blocking (param i32 i32 i32 i32)))
    (import "" "zeroes" (func $zeroes (param i32 i64 i32)))
    (func (export "f") (local $out i32)
      (local.set $out (call $get))
      (call $zeroes (local.get $out) (i64.const 0x4000000000000000) (i32.const 0))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $libc "memory")) (export "get" (func $get)) (export "write" (func $write))
    (export "blocking" (func $blocking)) (export "zeroes" (func $zeroes))))))
  (func (export "f") (canon lift (core func $i "f"))))
