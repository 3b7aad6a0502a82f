;; Jumps through a branch table forever.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (func (export "f") (local i32)
    (loop $a (loop $b
      (local.set 0 (i32.add (local.get 0) (i32.const 1)))
      (br_table $a $b $a $b (i32.and (local.get 0) (i32.const 3)))))))
