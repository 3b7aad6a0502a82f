;; Takes a vector, which no call can carry.
;; call: f(1)
;; is: UNSUPPORTED_TYPE not-started
(module
  (func (export "f") (param v128)))
