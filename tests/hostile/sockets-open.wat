;; Creates TCP sockets and never drops them. Its node grants no address.
;; call: f()
;; is: result 1
(component
  (import "wasi:sockets/network@0.2.0" (instance $network
    (type $c' (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
      "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit" "address-not-bindable"
      "address-in-use" "remote-unreachable" "connection-refused" "connection-reset" "connection-aborted"
      "datagram-too-large" "name-unresolvable" "temporary-resolver-failure" "permanent-resolver-failure"))
    (export "error-code" (type $c (eq $c')))
    (type $f' (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type $f (eq $f')))))
  (alias export $network "error-code" (type $code))
  (alias export $network "ip-address-family" (type $family))
  (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
  (alias export $tcp "tcp-socket" (type $socket))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
    (export "error-code" (type $c (eq $code)))
    (export "ip-address-family" (type $f (eq $family)))
    (export "tcp-socket" (type $s (eq $socket)))
    (export "create-tcp-socket" (func (param "address-family" $f) (result (result (own $s) (error $c)))))))
  (core module $libc (memory (export "memory") 1))
  (core instance $libc (instantiate $libc))
  (core func $new (canon lower (func $create "create-tcp-socket") (memory (core memory $libc "memory"))))
  (core module $m
    (import "" "memory" (memory 1))
    (import "" "new" (func $new (param i32 i32)))
    (func (export "f") (result i32)
      (loop $again
        (call $new (i32.const 0) (i32.const 0))
        (br_if $again (i32.eqz (i32.load8_u (i32.const 0)))))
      (i32.load8_u (i32.const 4))))
  (core instance $i (instantiate $m (with "" (instance
    (export "memory" (memory $libc "memory")) (export "new" (func $new))))))
  (func (export "f") (result u32) (canon lift (core func $i "f"))))
