;; Returns a reference, which no call can carry.
;; call: f()
;; is: UNSUPPORTED_TYPE not-started
(module
  (func (export "f") (result externref) (ref.null extern)))
