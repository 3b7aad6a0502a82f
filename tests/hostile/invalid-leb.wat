;; Has a number of too many bytes.
;; upload: MODULE_INVALID
(module binary
  "\00asm\01\00\00\00"
  "\01\80\80\80\80\80\80\80\00")
