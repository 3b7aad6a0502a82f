;; Exports functions whose names have control characters, and traps in one of them.
;; call: f()
;; is: TRAP ran-and-failed unreachable
(module
  (func $g (export "\1b]0;owned\07\1b[31m\0aFAKE LINE\e2\80\ae") unreachable)
  (func (export "f") (call $g))
  (@custom "name" (after last) "\01\0a\01\00\07\1b[2J\1b[1m"))
