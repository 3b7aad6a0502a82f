;; Has a data segment outside of its memory.
;; call: f()
;; is: TRAP ran-and-failed out of bounds memory access
(module
  (memory 1)
  (data (i32.const 65535) "too long")
  (func (export "f")))
