;; GHSA-2hw9-mc66-jc2q: `table.grow` by a negative number gave fuel back to the guest, which then ran without end; and a guest
;; that ran out of fuel in it left a table that had grown.
;; options --fuel 100000
;; run variable(-500) ! LIMIT_EXCEEDED units of fuel
;; run constant() ! LIMIT_EXCEEDED units of fuel
;; run many() ! LIMIT_EXCEEDED units of fuel
;; run few() = 1
(module
  (type $f (func))
  (table $t i64 0 0x10000 funcref)
  (table $large 1 90000 (ref $f) (ref.func $none))
  (func $none (type $f))
  (func (export "variable") (param i64)
    (loop $again
      (drop (table.grow $t (ref.null func) (local.get 0)))
      (br $again)))
  (func (export "constant")
    (loop $again
      (drop (table.grow $t (ref.null func) (i64.const -500)))
      (br $again)))
  (func (export "many")
    (loop $again
      (drop (table.grow $large (ref.func $none) (i32.const 40000)))
      (br $again)))
  (func (export "few") (result i32) (table.grow $large (ref.func $none) (i32.const 10))))
