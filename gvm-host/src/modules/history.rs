//! Which names of an index have changed since which revision.
//!
//! In: an index, each time somebody asks. Out: what has changed since a revision that was asked about before. Pure. Must
//! not know: who asks, the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::{Change, Index};
use crate::base::id::Name;

/// The most names that are remembered as changed. Whoever knows an older revision reads the whole index.
const MOST: usize = 20_000;

/// What has changed in one index since this was created. Belongs to one thread.
#[derive(Debug)]
pub struct History {
    /// Tells this history from others: the same revision of another one may be another index.
    pub id: u64,
    /// The oldest revision from which all changes are known.
    oldest: u64,
    last: Arc<Index>,
    /// The revision at which the last change of a name was seen.
    changed: BTreeMap<Name, u64>,
}

impl History {
    /// Creates a history that begins with this index. No other history may have the id.
    pub fn new(id: u64, index: Arc<Index>) -> History {
        History { id, oldest: index.revision, last: index, changed: BTreeMap::new() }
    }

    /// Returns what has changed in the index since a revision; `None` if that is not known. The index must be made from
    /// the one of the call before.
    pub fn since(&mut self, index: &Arc<Index>, revision: u64) -> Option<Change> {
        self.catch_up(index);
        if !(self.oldest..=index.revision).contains(&revision) {
            return None;
        }
        let changed = self.changed.iter().filter(|(_, at)| **at > revision);
        let names = changed.map(|(name, _)| (name.clone(), index.modules.get(name).cloned()));
        Some(Change { base: revision, revision: index.revision, names: names.collect() })
    }

    fn catch_up(&mut self, index: &Arc<Index>) {
        if Arc::ptr_eq(&self.last, index) {
            return;
        }
        let new = index.since(&self.last);
        self.changed.extend(new.names.into_keys().map(|name| (name, index.revision)));
        if self.changed.len() > MOST {
            self.changed.clear();
            self.oldest = index.revision;
        }
        self.last = index.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Hash;
    use crate::modules::index::Entry;
    use crate::modules::inspect::Kind;
    use crate::modules::names::TypeNames;
    use proptest::prelude::*;

    fn entry(text: &str) -> Entry {
        let (exports, types) = (Vec::new(), TypeNames::default());
        let sha256 = Hash::of(text.as_bytes());
        Entry { sha256, size: 1, kind: Kind::Core, main: false, exports, types, uploaded: String::new() }
    }

    fn version(number: u64) -> semver::Version {
        semver::Version::new(number, 0, 0)
    }

    proptest! {
        /// Readers that ask now and then, each of whatever it knows, have the index after each answer.
        #[test]
        fn readers_follow(steps in proptest::collection::vec((0..4_usize, 0..6_u64, 0..3_usize), 1..60)) {
            let mut index = Index::default();
            let mut history = History::new(7, Arc::new(index.clone()));
            let mut readers = vec![Index::default(); 3];
            for (number, (action, name, reader)) in steps.into_iter().enumerate() {
                let name: Name = format!("m{name}").parse().unwrap();
                match action {
                    0 | 1 => drop(index.add(&name, &version(number as u64), entry("x")).unwrap()),
                    2 => drop(index.remove(name.as_str(), None)),
                    _ => {
                        let now = Arc::new(index.clone());
                        let change = history.since(&now, readers[reader].revision).unwrap();
                        readers[reader] = readers[reader].with(change).unwrap();
                        prop_assert_eq!(&readers[reader], &index);
                    }
                }
            }
        }
    }

    #[test]
    fn old_and_foreign_revisions_are_unknown() {
        let mut index = Index { revision: 10, ..Index::default() };
        let mut history = History::new(7, Arc::new(index.clone()));
        index.add(&"a".parse().unwrap(), &version(1), entry("a")).unwrap();
        let index = Arc::new(index);
        assert_eq!(history.since(&index, 10).unwrap().names.len(), 1);
        assert_eq!(history.since(&index, 11).unwrap().names.len(), 0);
        assert_eq!((history.since(&index, 9), history.since(&index, 12)), (None, None));
        let mut many = Index::clone(&index);
        for number in 0..=MOST {
            many.add(&format!("n{number}").parse().unwrap(), &version(1), entry("n")).unwrap();
        }
        let many = Arc::new(many);
        assert_eq!(history.since(&many, 10), None);
        assert_eq!(history.since(&many, many.revision).unwrap().names.len(), 0);
    }
}
