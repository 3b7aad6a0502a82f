;; Grows four memories. Each stays small; their sum is too large.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed memory 256.0 MiB
(module
  (memory $a 1) (memory $b 1) (memory $c 1) (memory $d 1)
  (func (export "f")
    (loop $again
      (drop (memory.grow $a (i32.const 64)))
      (drop (memory.grow $b (i32.const 64)))
      (drop (memory.grow $c (i32.const 64)))
      (br_if $again (i32.ne (memory.grow $d (i32.const 64)) (i32.const -1))))
    unreachable))
