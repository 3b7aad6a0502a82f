;; Grows four memories. Each stays small, but their sum exceeds the limit.
(module
  (memory $a 1) (memory $b 1) (memory $c 1) (memory $d 1)
  (func (export "_start")
    (loop $again
      (drop (memory.grow $a (i32.const 64)))
      (drop (memory.grow $b (i32.const 64)))
      (drop (memory.grow $c (i32.const 64)))
      (br_if $again (i32.ne (memory.grow $d (i32.const 64)) (i32.const -1))))
    unreachable))
