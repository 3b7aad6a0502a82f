;; Fills all of its 200 MiB in one instruction, which cannot be interrupted, and then loops.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (memory 3200)
  (func (export "f")
    (memory.fill (i32.const 0) (i32.const 7) (i32.const 0xc800000))
    (loop $again (br $again))))
