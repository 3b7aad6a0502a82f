;; Declares an initial memory of 2 GiB.
(module (memory 32768) (func (export "_start")))
