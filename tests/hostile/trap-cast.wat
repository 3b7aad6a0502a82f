;; Casts a reference to a type that it does not have.
;; call: f()
;; is: TRAP ran-and-failed cast failure
(module
  (type $s (struct (field i32)))
  (func (export "f") (drop (ref.cast (ref $s) (ref.i31 (i32.const 1))))))
