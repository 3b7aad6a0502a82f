;; Waits for another thread on memory that is not shared.
;; call: f()
;; is: TRAP ran-and-failed atomic wait on non-shared memory
(module
  (memory 1)
  (func (export "f") (result i32)
    (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))
