;; In: a number of pages. Out: nothing if the memory grew by that number; a trap if it did not.
(module
  (memory (export "memory") 1)
  (func (export "grow") (param i32)
    (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then (unreachable)))))
