;; Throws and catches exceptions forever.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (tag $e (param i32))
  (func (export "f")
    (loop $again
      (block $caught (result i32)
        (try_table (catch $e $caught) (throw $e (i32.const 1)))
        unreachable)
      drop
      (br $again))))
