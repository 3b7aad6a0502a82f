;; Uses stack switching.
;; upload: MODULE_INVALID stack switching
(module
  (type $t (func))
  (type $c (cont $t))
  (func (export "f") (drop (cont.new $c (ref.null $t)))))
