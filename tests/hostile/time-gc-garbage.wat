;; Creates garbage forever and keeps none of it.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (type $s (struct (field i64) (field i64)))
  (func (export "f")
    (loop $again (drop (struct.new $s (i64.const 1) (i64.const 2))) (br $again))))
