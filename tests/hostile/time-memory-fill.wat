;; Fills 16 MiB again and again.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (memory 256)
  (func (export "f")
    (loop $again (memory.fill (i32.const 0) (i32.const 7) (i32.const 0x1000000)) (br $again))))
