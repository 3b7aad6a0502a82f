;; In: a number of pages. Out: whether its memory grew by them; the guest breaks off where it did not.
(module
  (memory (export "memory") 1)
  (func (export "grow") (param i32)
    (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then (unreachable)))))
