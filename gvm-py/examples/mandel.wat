;; mandel: computes a tile of the Mandelbrot set. As a component, it can take a record and return bytes.
;;
;; tile: func(t: area) -> list<u8>. Returns for each point, row by row, the number of rounds after which it
;; leaves the circle of radius 2, or 0 if it has not left the circle after `limit` rounds.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "tile")
      (param $left f64) (param $top f64) (param $step f64) (param $width i32) (param $height i32) (param $limit i32)
      (result i32)
      (local $x i32) (local $y i32) (local $n i32) (local $at i32) (local $missing i32)
      (local $cr f64) (local $ci f64) (local $r f64) (local $i f64) (local $rr f64) (local $ii f64)
      ;; Grows the memory to hold the picture after the two words with its address and length.
      (local.set $missing
        (i32.sub
          (i32.shr_u (i32.add (i32.mul (local.get $width) (local.get $height)) (i32.const 66000)) (i32.const 16))
          (memory.size)))
      (if (i32.gt_s (local.get $missing) (i32.const 0))
        (then
          (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then unreachable))))
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (i32.mul (local.get $width) (local.get $height)))
      (local.set $at (i32.const 16))
      (block $done
        (loop $rows
          (br_if $done (i32.ge_u (local.get $y) (local.get $height)))
          (local.set $ci
            (f64.add (local.get $top) (f64.mul (f64.convert_i32_u (local.get $y)) (local.get $step))))
          (local.set $x (i32.const 0))
          (block $row
            (loop $points
              (br_if $row (i32.ge_u (local.get $x) (local.get $width)))
              (local.set $cr
                (f64.add (local.get $left) (f64.mul (f64.convert_i32_u (local.get $x)) (local.get $step))))
              (local.set $r (f64.const 0))
              (local.set $i (f64.const 0))
              (local.set $n (i32.const 0))
              (block $left_
                (loop $rounds
                  (local.set $rr (f64.mul (local.get $r) (local.get $r)))
                  (local.set $ii (f64.mul (local.get $i) (local.get $i)))
                  (br_if $left_ (f64.gt (f64.add (local.get $rr) (local.get $ii)) (f64.const 4)))
                  (if (i32.ge_u (local.get $n) (local.get $limit))
                    (then (local.set $n (i32.const 0)) (br $left_)))
                  (local.set $n (i32.add (local.get $n) (i32.const 1)))
                  (local.set $i
                    (f64.add (f64.mul (f64.mul (f64.const 2) (local.get $r)) (local.get $i)) (local.get $ci)))
                  (local.set $r (f64.add (f64.sub (local.get $rr) (local.get $ii)) (local.get $cr)))
                  (br $rounds)))
              (i32.store8 (local.get $at) (local.get $n))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (local.set $x (i32.add (local.get $x) (i32.const 1)))
              (br $points)))
          (local.set $y (i32.add (local.get $y) (i32.const 1)))
          (br $rows)))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
  (type $record
    (record
      (field "left" f64) (field "top" f64) (field "step" f64)
      (field "width" u32) (field "height" u32) (field "limit" u8)))
  (export $tile "area" (type $record))
  (func $f (param "t" $tile) (result (list u8))
    (canon lift (core func $i "tile") (memory $memory) (realloc $realloc)))
  (export "tile" (func $f)))
