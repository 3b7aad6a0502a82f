;; Leaves a value of the wrong type.
;; upload: MODULE_INVALID
(module
  (func (export "f") (result i32) (f32.const 1)))
