;; GHSA-2hw9-mc66-jc2q: a guest could yield in the middle of an operation on many elements. Others then saw its state, such as
;; a table with elements that its type forbids, and the operation went on with old addresses.
;; run table() = 7
;; run arrays(200) = 1400
;; run memory(20) = 1
(module
  (type $f (func (result i32)))
  (type $box (struct (field i32)))
  (type $boxes (array (mut (ref null $box))))
  (table $t 1 90000 (ref $f) (ref.func $seven))
  (memory 1024)
  (global $kept (mut (ref null $boxes)) (ref.null $boxes))
  (func $seven (type $f) (i32.const 7))
  (func (export "table") (result i32)
    (drop (table.grow $t (ref.func $seven) (i32.const 80000)))
    (call_indirect $t (type $f) (i32.sub (table.size $t) (i32.const 1))))
  ;; Fills and copies arrays of references, and adds up one element of each.
  (func (export "arrays") (param $times i32) (result i32) (local $to (ref null $boxes)) (local $sum i32)
    (loop $again
      (local.set $to (array.new_default $boxes (i32.const 20000)))
      (global.set $kept (array.new_default $boxes (i32.const 20000)))
      (array.fill $boxes (global.get $kept) (i32.const 0) (struct.new $box (i32.const 7)) (i32.const 20000))
      (array.copy $boxes $boxes (local.get $to) (i32.const 0) (global.get $kept) (i32.const 0) (i32.const 20000))
      (local.set $sum (i32.add (local.get $sum)
        (struct.get $box 0 (array.get $boxes (local.get $to) (i32.const 19999)))))
      (local.set $times (i32.sub (local.get $times) (i32.const 1)))
      (br_if $again (local.get $times)))
    (local.get $sum))
  ;; Fills 32 MiB and moves them by a byte. Both take longer than an epoch.
  (func (export "memory") (param $times i32) (result i32) (local $right i32)
    (local.set $right (i32.const 1))
    (loop $again
      (memory.fill (i32.const 0) (local.get $times) (i32.const 0x2000000))
      (i32.store8 (i32.const 0x1ffffff) (i32.const 99))
      (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x2000000))
      (local.set $right (i32.and (local.get $right) (i32.and
        (i32.eq (i32.load8_u (i32.const 0x2000000)) (i32.const 99))
        (i32.eq (i32.load8_u (i32.const 0x1ffffff)) (local.get $times)))))
      (local.set $times (i32.sub (local.get $times) (i32.const 1)))
      (br_if $again (local.get $times)))
    (local.get $right)))
