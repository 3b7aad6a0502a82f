;; Exports the same name twice.
;; upload: MODULE_INVALID duplicate export
(module
  (func (export "f")) (func (export "f")))
