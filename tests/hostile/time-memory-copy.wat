;; Copies 16 MiB onto overlapping memory again and again.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (memory 512)
  (func (export "f")
    (loop $again (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x1000000)) (br $again))))
