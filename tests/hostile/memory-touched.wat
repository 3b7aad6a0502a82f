;; Writes to 64 MiB and returns. The memory must not stay with the node.
;; call: f()
;; is: result 7
(module
  (memory 1024)
  (func (export "f") (result i32)
    (memory.fill (i32.const 0) (i32.const 7) (i32.const 0x4000000))
    (i32.load8_u (i32.const 0x3ffffff))))
