;; Uses the old form of exceptions.
;; upload: MODULE_INVALID legacy exceptions
(module binary
  "\00asm\01\00\00\00"
  "\01\04\01\60\00\00"
  "\03\02\01\00"
  "\0d\03\01\00\00"
  "\0a\0a\01\08\00\06\40\08\00\19\0b\0b")
