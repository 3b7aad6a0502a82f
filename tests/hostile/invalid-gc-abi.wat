;; Has a list of records without fields: elements of size zero.
;; upload: MODULE_INVALID
(component (type $e (record)) (type $l (list $e)))
