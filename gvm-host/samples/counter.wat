;; counter: a module with state. Each call starts at 0; a live instance (`Node.spawn(counter)`) keeps the count.
(module
  (global $count (mut i32) (i32.const 0))

  (func (export "increment") (result i32)
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (global.get $count))

  (func (export "reset")
    (global.set $count (i32.const 0))))
