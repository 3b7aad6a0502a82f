//! The index of a home's modules, which `ghost.modules.json` stores.
//!
//! In: names, versions and what uploaded modules contain. Out: the hash of the module that a name means. Pure.
//! Must not know: files, sockets, the clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use semver::Version;

use crate::base::error::{Code, Error, Result};
use crate::base::id::{Hash, Name};
use crate::base::near;
use crate::modules::inspect::{Kind, LONGEST_SIGNATURE, ModuleInfo};
use crate::modules::names::{TypeNames, at_most};

/// The longest signature in the index, in bytes, and the most functions of one module in it: people read
/// the index too, and a hostile module must not bloat it. Nodes read signatures from the
/// modules themselves.
const MAX_SIGNATURE: usize = 1000;
const MAX_EXPORTS: usize = 500;

/// All modules of a home. Plain data; share it in an `Arc`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// Increases with every change.
    pub revision: u64,
    /// Shared with the indexes before and after a change, except for the module that changed.
    pub modules: BTreeMap<Name, Arc<Module>>,
}

/// What is different between two revisions of an index.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The revision that the index had before.
    pub base: u64,
    pub revision: u64,
    /// What each name that is different stands for now; `None` if it was removed.
    pub names: BTreeMap<Name, Option<Arc<Module>>>,
}

/// The versions of one module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// The version that a person chose for requests without a version.
    pub pinned: Option<Version>,
    pub versions: BTreeMap<Version, Entry>,
}

/// One version of a module.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub sha256: Hash,
    /// In bytes.
    pub size: u64,
    pub kind: Kind,
    /// Whether it has a main.
    pub main: bool,
    /// The functions that it exports, as WIT writes them: `add: func(a: s32, b: s32) -> s32`, with the
    /// interface in front if there is one: `ns:pkg/iface@1.0.0#greet: func()`.
    pub exports: Vec<String>,
    /// The names of the types in these functions, each with its type.
    pub types: TypeNames,
    /// When it was stored, RFC 3339, UTC.
    pub uploaded: String,
}

/// The stored module that a name means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resolved<'a> {
    pub name: &'a Name,
    pub version: &'a Version,
    pub entry: &'a Entry,
}

impl Entry {
    /// Creates the entry of a module.
    pub fn new(sha256: Hash, size: u64, info: &ModuleInfo, uploaded: String) -> Entry {
        let exports = info.exports.iter().take(MAX_EXPORTS).map(|export| {
            let interface = export.interface.as_ref().map(|name| format!("{name}#")).unwrap_or_default();
            let signature = format_args!("{interface}{}: {}", export.name, export.ty);
            at_most(MAX_SIGNATURE, &signature).unwrap_or_else(|_| {
                let named =
                    info.types.shown(&at_most(LONGEST_SIGNATURE, &signature).unwrap_or_else(|cut| cut));
                at_most(MAX_SIGNATURE, &named).unwrap_or_else(|cut| cut + "…")
            })
        });
        let (exports, types) = (exports.collect(), info.types.clone());
        Entry { sha256, size, kind: info.kind, main: info.main, exports, types, uploaded }
    }
}

impl Module {
    /// Returns the version for requests without a version: the pinned one, else the highest release, else
    /// the highest prerelease.
    pub fn chosen(&self) -> Option<(&Version, &Entry)> {
        let pinned = self.pinned.as_ref().and_then(|version| self.versions.get_key_value(version));
        let release = || self.versions.iter().rfind(|(version, _)| version.pre.is_empty());
        pinned.or_else(release).or_else(|| self.versions.last_key_value())
    }
}

impl Index {
    /// Returns the module that a name, or a name and a version, mean.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND`, with similar names or the existing versions.
    pub fn resolve(&self, name: &str, version: Option<&Version>) -> Result<Resolved<'_>> {
        let (name, module) = self.module(name)?;
        let found = match version {
            Some(version) => module.versions.get_key_value(version),
            None => module.chosen(),
        };
        match (found, version) {
            (Some((version, entry)), _) => Ok(Resolved { name, version, entry }),
            (None, Some(version)) => Err(no_version(name, module, version)),
            (None, None) => Err(Error::new(Code::ModuleNotFound, format!("`{name}` has no versions"))),
        }
    }

    /// Adds a version. Returns whether it is new.
    ///
    /// # Errors
    /// `MODULE_EXISTS` if the name and version exist with different content.
    pub fn add(&mut self, name: &Name, version: &Version, entry: Entry) -> Result<bool> {
        let module = self.modules.get(name).and_then(|module| module.versions.get(version));
        match module {
            Some(stored) if stored.sha256 == entry.sha256 => return Ok(false),
            Some(_) => {
                return Err(Error::new(
                    Code::ModuleExists,
                    format!("`{name}@{version}` already exists with different content"),
                )
                .with_help("choose a new version"));
            }
            None => {}
        }
        let module = Arc::make_mut(self.modules.entry(name.clone()).or_default());
        module.versions.insert(version.clone(), entry);
        self.revision += 1;
        Ok(true)
    }

    /// Removes a version, or all of them. Returns the removed versions.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND`.
    pub fn remove(&mut self, name: &str, version: Option<&Version>) -> Result<Vec<Version>> {
        let (name, module) = self.module(name)?;
        let name = name.clone();
        let gone: Vec<Version> = match version {
            Some(version) if module.versions.contains_key(version) => vec![version.clone()],
            Some(version) => return Err(no_version(&name, module, version)),
            None => module.versions.keys().cloned().collect(),
        };
        if let Some(module) = self.modules.get_mut(&name) {
            let module = Arc::make_mut(module);
            module.versions.retain(|version, _| !gone.contains(version));
            if module.pinned.as_ref().is_some_and(|pinned| gone.contains(pinned)) {
                module.pinned = None;
            }
            if module.versions.is_empty() {
                self.modules.remove(&name);
            }
        }
        self.revision += 1;
        Ok(gone)
    }

    /// Chooses the version for requests without a version. `None` chooses the highest one again.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND`.
    pub fn pin(&mut self, name: &str, version: Option<&Version>) -> Result<()> {
        let (name, module) = self.module(name)?;
        if let Some(version) = version
            && !module.versions.contains_key(version)
        {
            return Err(no_version(name, module, version));
        }
        let name = name.clone();
        if let Some(module) = self.modules.get_mut(&name) {
            Arc::make_mut(module).pinned = version.cloned();
        }
        self.revision += 1;
        Ok(())
    }

    /// Returns what has changed since an earlier index from which this one was made.
    pub fn since(&self, before: &Index) -> Change {
        let is_same = |name: &Name, module: &Arc<Module>| {
            before.modules.get(name).is_some_and(|known| Arc::ptr_eq(known, module))
        };
        let changed = self.modules.iter().filter(|(name, module)| !is_same(name, module));
        let changed = changed.map(|(name, module)| (name.clone(), Some(module.clone())));
        let removed = before.modules.keys().filter(|name| !self.modules.contains_key(*name));
        let names = changed.chain(removed.map(|name| (name.clone(), None)));
        Change { base: before.revision, revision: self.revision, names: names.collect() }
    }

    /// Returns the index after a change; `None` if the change was made to another revision.
    pub fn with(&self, change: Change) -> Option<Index> {
        if self.revision != change.base {
            return None;
        }
        let mut index = self.clone();
        index.apply(change).then_some(index)
    }

    /// Applies a change. Returns whether it was made to this revision; otherwise nothing changes.
    pub fn apply(&mut self, change: Change) -> bool {
        if self.revision != change.base {
            return false;
        }
        self.revision = change.revision;
        for (name, module) in change.names {
            match module {
                Some(module) => drop(self.modules.insert(name, module)),
                None => drop(self.modules.remove(&name)),
            }
        }
        true
    }

    /// Returns whether any version has this hash.
    pub fn holds(&self, hash: Hash) -> bool {
        self.entries().any(|resolved| resolved.entry.sha256 == hash)
    }

    /// Returns every version of every module, sorted by name and version.
    pub fn entries(&self) -> impl Iterator<Item = Resolved<'_>> {
        self.modules.iter().flat_map(|(name, module)| {
            module.versions.iter().map(move |(version, entry)| Resolved { name, version, entry })
        })
    }

    fn module(&self, name: &str) -> Result<(&Name, &Module)> {
        let found = self.modules.iter().find(|(known, _)| known.as_str() == name);
        found.map(|(name, module)| (name, &**module)).ok_or_else(|| {
            let near = near::suggestion(name, self.modules.keys().map(Name::as_str));
            let error = Error::new(Code::ModuleNotFound, format!("no module is named `{name}`{near}"));
            match near.is_empty() {
                true => error.with_help("list the modules with `Module.list()` or `gpmd wasm list`"),
                false => error,
            }
        })
    }
}

fn no_version(name: &Name, module: &Module, version: &Version) -> Error {
    let versions: Vec<String> = module.versions.keys().rev().take(10).map(Version::to_string).collect();
    Error::new(Code::ModuleNotFound, format!("the module `{name}` has no version {version}"))
        .with_help(format!("use one of its versions: {}", versions.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: &str) -> Entry {
        Entry {
            sha256: Hash::of(bytes.as_bytes()),
            size: bytes.len() as u64,
            kind: Kind::Core,
            main: true,
            exports: vec!["add: func(a: s32) -> s32".into()],
            types: TypeNames::default(),
            uploaded: "2026-01-01T00:00:00Z".into(),
        }
    }

    fn version(text: &str) -> Version {
        crate::base::id::parse_version(text).unwrap()
    }

    fn index(versions: &[&str]) -> Index {
        let mut index = Index::default();
        for text in versions {
            assert!(index.add(&"math".parse().unwrap(), &version(text), entry(text)).unwrap());
        }
        index
    }

    fn chosen(index: &Index) -> String {
        index.resolve("math", None).unwrap().version.to_string()
    }

    #[test]
    fn the_highest_release_is_the_default() {
        assert_eq!(chosen(&index(&["1.2.0", "1.10.0", "2.0.0-rc.1", "1.9.0"])), "1.10.0");
        assert_eq!(chosen(&index(&["1.0.0-rc.1", "1.0.0-rc.2"])), "1.0.0-rc.2");
    }

    #[test]
    fn pinning_chooses_and_unpins() {
        let mut index = index(&["1.0.0", "2.0.0"]);
        index.pin("math", Some(&version("1.0.0"))).unwrap();
        assert_eq!(chosen(&index), "1.0.0");
        index.pin("math", None).unwrap();
        assert_eq!(chosen(&index), "2.0.0");
        index.pin("math", Some(&version("2.0.0"))).unwrap();
        index.remove("math", Some(&version("v2.0.0"))).unwrap();
        assert_eq!(chosen(&index), "1.0.0");
        assert_eq!(index.pin("math", Some(&version("9.0.0"))).unwrap_err().code(), Code::ModuleNotFound);
    }

    #[test]
    fn versions_do_not_change_their_content() {
        let mut index = index(&["1.0.0"]);
        let (name, one) = ("math".parse().unwrap(), version("1.0.0"));
        let revision = index.revision;
        assert!(!index.add(&name, &one, entry("1.0.0")).unwrap());
        assert_eq!(index.revision, revision);
        assert_eq!(index.add(&name, &one, entry("other")).unwrap_err().code(), Code::ModuleExists);
    }

    #[test]
    fn removes_one_version_or_all() {
        let mut index = index(&["1.0.0", "2.0.0", "3.0.0"]);
        assert_eq!(index.remove("math", Some(&version("2.0.0"))).unwrap(), [version("2.0.0")]);
        assert_eq!(index.remove("math", Some(&version("2.0.0"))).unwrap_err().code(), Code::ModuleNotFound);
        assert_eq!(index.remove("math", None).unwrap().len(), 2);
        let error = index.resolve("math", None).unwrap_err();
        assert_eq!(error.code(), Code::ModuleNotFound);
    }

    #[test]
    fn errors_name_similar_names_and_existing_versions() {
        let index = index(&["1.0.0"]);
        let error = index.resolve("mth", None).unwrap_err();
        assert_eq!(error.message(), "no module is named `mth`: did you mean `math`?");
        let error = index.resolve("zzz", None).unwrap_err();
        assert_eq!(error.help(), Some("list the modules with `Module.list()` or `gpmd wasm list`"));
        let error = index.resolve("math", Some(&version("2.0.0"))).unwrap_err();
        assert_eq!(error.message(), "the module `math` has no version 2.0.0");
        assert_eq!(error.help(), Some("use one of its versions: 1.0.0"));
    }

    #[test]
    fn changes_lead_from_one_index_to_the_next() {
        let first = index(&["1.0.0"]);
        let mut second = first.clone();
        second.add(&"text".parse().unwrap(), &version("1.0.0"), entry("text")).unwrap();
        let mut third = second.clone();
        third.remove("math", None).unwrap();
        let mut last = third.clone();
        last.add(&"text".parse().unwrap(), &version("2.0.0"), entry("more")).unwrap();
        let cross = |change: &Change| {
            let gone = change.gone().map(|name| name.as_str().to_owned()).collect::<Vec<_>>();
            Change::from_parts(change.base, gone.iter().map(String::as_str), &change.to_json().unwrap())
        };
        let mut follows = first.clone();
        for (before, after) in [(&first, &second), (&second, &third), (&third, &last)] {
            let change = after.since(before);
            assert_eq!(change.names.len(), 1);
            assert_eq!(cross(&change).unwrap(), change);
            follows = follows.with(change).unwrap();
            assert_eq!(follows, *after);
        }
        let all = cross(&last.since(&first)).unwrap();
        assert_eq!((all.names.len(), first.with(all)), (2, Some(last.clone())));
        assert_eq!(first.since(&first).names.len(), 0);
        assert_eq!(first.with(last.since(&third)), None);
        assert!(Change::from_parts(1, ["a name"].into_iter(), &last.to_json().unwrap()).is_err());
        assert!(Change::from_parts(1, ["text"].into_iter(), &last.to_json().unwrap()).is_err());
    }

    #[test]
    fn json_round_trips() {
        let index = index(&["1.0.0", "2.0.0-rc.1"]);
        assert_eq!(Index::from_json(&index.to_json().unwrap()).unwrap(), index);
        assert_eq!(Index::from_json("{").unwrap_err().code(), Code::ModuleCorrupt);
        let later = index.to_json().unwrap().replace("\"format\": 1", "\"format\": 3");
        assert_eq!(Index::from_json(&later).unwrap_err().code(), Code::VersionMismatch);
    }
}
