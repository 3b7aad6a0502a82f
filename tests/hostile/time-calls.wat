;; Calls an empty function forever.
;; call: f()
;; is: TIMEOUT ran-and-failed
(module
  (func $g)
  (func (export "f") (loop $again (call $g) (br $again))))
