;; Grows a table until that fails, then traps.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed table 100000
(module
  (table $t 1 funcref)
  (func (export "f")
    (loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1))))
    unreachable))
