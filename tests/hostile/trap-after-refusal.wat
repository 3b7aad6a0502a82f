;; Accepts that its memory may not grow, and then traps for another reason.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed memory
(module
  (memory 1)
  (func (export "f") (result i32)
    (drop (memory.grow (i32.const 65000)))
    (i32.div_u (i32.const 1) (i32.const 0))))
