;; Loops forever with vectors.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (func (export "f") (local v128)
    (loop $again (local.set 0 (i32x4.add (local.get 0) (v128.const i32x4 1 2 3 4))) (br $again))))
