;; A program and a function that loop without end and never wait.
(module
  (func (export "_start") (loop $again (br $again)))
  (func (export "spin") (result i32) (loop $again (br $again)) (i32.const 0)))
