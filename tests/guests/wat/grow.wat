;; `grow` grows the memory until that fails, then traps because of the limit. `polite` returns the failure.
(module
  (memory (export "memory") 1)
  (func (export "_start") (call $grow))
  (func $grow (export "grow")
    (loop $again
      (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable)
  (func (export "polite") (result i32)
    (memory.grow (i32.const 65000))))
