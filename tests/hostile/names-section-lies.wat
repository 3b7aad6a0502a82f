;; Has a name section that ends in the middle of a name. Names are optional, so the module runs.
;; call: f()
;; is: result
(module binary
  "\00asm\01\00\00\00"
  "\01\04\01\60\00\00"
  "\03\02\01\00"
  "\07\05\01\01f\00\00"
  "\0a\04\01\02\00\0b"
  "\00\0a\04name\01\7f\ff\ff\ff")
