;; Throws exceptions that carry 1 MiB, and keeps all of them.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed memory 256.0 MiB
(module
  (type $a (array (mut i64)))
  (type $node (sub (struct (field (ref null $node)) (field exnref))))
  (tag $e (param (ref $a)))
  (func (export "f") (local $list (ref null $node)) (local $x exnref)
    (loop $again
      (block $caught (result exnref)
        (try_table (catch_all_ref $caught) (throw $e (array.new_default $a (i32.const 131072))))
        unreachable)
      (local.set $x)
      (local.set $list (struct.new $node (local.get $list) (local.get $x)))
      (br $again))))
