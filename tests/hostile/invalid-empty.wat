;; Is a header and nothing more: a valid module without functions.
;; call: f()
;; is: FUNCTION_NOT_FOUND not-started
(module binary
  "\00asm\01\00\00\00")
