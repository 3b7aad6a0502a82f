;; Has a section of 4 GiB.
;; upload: MODULE_INVALID
(module binary
  "\00asm\01\00\00\00"
  "\01\ff\ff\ff\ff\0f\01")
