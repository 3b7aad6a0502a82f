;; Exports everything but functions.
;; call: f()
;; is: FUNCTION_NOT_FOUND not-started
(module
  (memory (export "f") 1)
  (global (export "g") i32 (i32.const 1)))
