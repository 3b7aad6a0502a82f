;; Imports a function of WASI with another type.
;; call: f()
;; is: IMPORT_UNSATISFIED not-started with another type
(module
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32)))
  (func (export "f")))
