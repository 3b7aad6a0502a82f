;; Is a component of an old version.
;; upload: MODULE_INVALID
(module binary
  "\00asm\0a\00\01\00")
