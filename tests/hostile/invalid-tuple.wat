;; Has a list of tuples without elements: elements of size zero.
;; upload: MODULE_INVALID
(component (type $l (list (tuple))))
