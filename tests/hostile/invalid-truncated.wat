;; Ends in the middle of a section.
;; upload: MODULE_INVALID
(module binary
  "\00asm\01\00\00\00"
  "\01\04\01\60")
