;; Builds a list of arrays of 1 MiB that never ends.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed memory 256.0 MiB
(module
  (type $a (array (mut i64)))
  (type $node (sub (struct (field (ref null $node)) (field (ref $a)))))
  (func (export "f") (local $list (ref null $node))
    (loop $again
      (local.set $list (struct.new $node (local.get $list) (array.new_default $a (i32.const 131072))))
      (br $again))))
