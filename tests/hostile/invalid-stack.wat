;; Takes a value from an empty stack.
;; upload: MODULE_INVALID
(module
  (func (export "f") i32.add drop))
