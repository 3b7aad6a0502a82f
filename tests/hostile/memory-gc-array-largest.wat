;; Creates an array of the largest length.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed memory
(module
  (type $a (array (mut i64)))
  (func (export "f") (drop (array.new_default $a (i32.const -1)))))
