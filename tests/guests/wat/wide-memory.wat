;; Asks for 2 GiB from the start.
(module (memory 32768) (func (export "_start")))
