;; Has a version of the future.
;; upload: MODULE_INVALID
(module binary
  "\00asm\ff\00\00\00")
