;; Grows a 64-bit memory by 2^40 pages, then traps.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed memory
(module
  (memory i64 1)
  (func (export "f")
    (if (i64.eq (memory.grow (i64.const 0x10000000000)) (i64.const -1)) (then unreachable))))
