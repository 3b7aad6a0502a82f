;; Uses nearly all of its memory, then tables for the rest.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed memory 256.0 MiB
(module
  (memory 4095)
  (table $a 1 funcref) (table $b 1 funcref)
  (func (export "f")
    (if (i32.eq (table.grow $a (ref.null func) (i32.const 99999)) (i32.const -1)) (then unreachable))
    (drop (table.grow $b (ref.null func) (i32.const 99999)))
    unreachable))
