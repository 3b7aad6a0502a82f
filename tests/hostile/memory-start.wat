;; Grows its memory in its start function until that fails, then traps.
;; call: f()
;; is: LIMIT_EXCEEDED ran-and-failed memory 256.0 MiB
(module
  (memory 1)
  (func $start
    (loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable)
  (start $start)
  (func (export "f")))
