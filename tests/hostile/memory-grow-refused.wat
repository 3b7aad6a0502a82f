;; Asks for too much memory, and accepts the refusal.
;; call: f()
;; is: result -1
(module
  (memory 1)
  (func (export "f") (result i32) (memory.grow (i32.const 65000))))
