;; Declares a function with 2^32-1 locals.
;; upload: MODULE_INVALID locals
(module binary
  "\00asm\01\00\00\00"
  "\01\04\01\60\00\00"
  "\03\02\01\00"
  "\0a\0b\01\09\01\ff\ff\ff\ff\0f\7f\0b\0b")
