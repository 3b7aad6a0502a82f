;; Fills a table of the largest size again and again.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (table $t 100000 funcref)
  (func $g)
  (elem declare func $g)
  (func (export "f")
    (loop $again (table.fill $t (i32.const 0) (ref.func $g) (i32.const 100000)) (br $again))))
