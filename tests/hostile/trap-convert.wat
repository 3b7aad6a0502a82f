;; Converts a number that is not a number.
;; call: f()
;; is: TRAP ran-and-failed invalid conversion to integer
(module
  (func (export "f") (result i32) (i32.trunc_f64_s (f64.const nan))))
