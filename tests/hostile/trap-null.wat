;; Follows an empty reference.
;; call: f()
;; is: TRAP ran-and-failed null reference
(module
  (type $s (struct (field i32)))
  (func (export "f") (result i32) (struct.get $s 0 (ref.null $s))))
