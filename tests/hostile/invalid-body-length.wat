;; Has a function body that is longer than its section.
;; upload: MODULE_INVALID
(module binary
  "\00asm\01\00\00\00"
  "\01\04\01\60\00\00"
  "\03\02\01\00"
  "\0a\04\01\7f\00\0b")
