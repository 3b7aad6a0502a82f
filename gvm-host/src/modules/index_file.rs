//! The file of the index, `ghost.modules.json`, and the log beside it that a large index has.
//!
//! In: an index, or the text of the file; changes, or the text of the log. Out: the other of the two. These types are the layout
//! of the files and nothing else: the wire and `--json` have their own. Must not know: where the files are.
//!
//! A large index is not written again for every change: the file has format 2, and the log has one line for each change since.
//! A small index has format 1 and no log.

use std::collections::BTreeMap;
use std::sync::Arc;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::index::{Change, Entry, Index, Module};
use super::inspect::Kind;
use super::names::TypeNames;
use crate::base::error::{Code, Error, Result};
use crate::base::id::{Hash, Name};

/// The layout of an index that has no log.
const WHOLE: u32 = 1;

/// The layout of an index that has a log.
const WITH_LOG: u32 = 2;

/// What the file says, without the log.
#[derive(Debug)]
pub struct Snapshot {
    pub index: Index,
    pub has_log: bool,
}

/// One line of the log.
#[derive(Serialize, Deserialize)]
struct FileChange {
    base: u64,
    revision: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gone: Vec<Name>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    modules: BTreeMap<Name, FileModule>,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    revision: u64,
    modules: BTreeMap<Name, FileModule>,
}

#[derive(Serialize, Deserialize)]
struct FileModule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pinned: Option<Version>,
    versions: BTreeMap<Version, FileEntry>,
}

#[derive(Serialize, Deserialize)]
struct FileEntry {
    sha256: Hash,
    size: u64,
    kind: FileKind,
    main: bool,
    exports: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    types: BTreeMap<String, String>,
    uploaded: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileKind {
    Core,
    Component,
}

impl Snapshot {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// `MODULE_CORRUPT` with line and column; `VERSION_MISMATCH` for a later format.
    pub fn from_json(text: &str) -> Result<Snapshot> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let corrupt = |error: serde_json::Error| Error::new(Code::ModuleCorrupt, error.to_string());
        let Format { format } = serde_json::from_str(text).map_err(corrupt)?;
        if format != WHOLE && format != WITH_LOG {
            let message =
                format!("the index has format {format}; this program reads formats up to {WITH_LOG}");
            return Err(
                Error::new(Code::VersionMismatch, message).with_help("install a newer release of GVM")
            );
        }
        let file: File = serde_json::from_str(text).map_err(corrupt)?;
        let modules =
            file.modules.into_iter().map(|(name, module)| (name, Arc::new(module.into()))).collect();
        Ok(Snapshot { index: Index { revision: file.revision, modules }, has_log: format == WITH_LOG })
    }
}

impl Index {
    /// Reads the text of an index that has no log.
    ///
    /// # Errors
    /// `MODULE_CORRUPT` with line and column; `VERSION_MISMATCH` for a later format.
    pub fn from_json(text: &str) -> Result<Index> {
        Snapshot::from_json(text).map(|snapshot| snapshot.index)
    }

    /// The text of an index that has no log.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn to_json(&self) -> Result<String> {
        self.written(WHOLE)
    }

    /// The text of an index that has a log.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn to_json_with_log(&self) -> Result<String> {
        self.written(WITH_LOG)
    }

    fn written(&self, format: u32) -> Result<String> {
        let modules = self.modules.iter().map(|(name, module)| (name.clone(), (&**module).into())).collect();
        let text = serde_json::to_string_pretty(&File { format, revision: self.revision, modules });
        text.map(|text| text + "\n").map_err(unwritable)
    }

    /// Returns the index after the changes in the text of its log. A last line without an end is left out: it was not
    /// acknowledged.
    ///
    /// # Errors
    /// `MODULE_CORRUPT` with the number of the line.
    pub fn after_log(mut self, log: &str) -> Result<Index> {
        for (place, line) in log.split_inclusive('\n').enumerate() {
            let Some(line) = line.strip_suffix('\n') else { break };
            let corrupt = |problem: &dyn std::fmt::Display| {
                Error::new(Code::ModuleCorrupt, format!("line {} of the log: {problem}", place + 1))
            };
            let change: FileChange = serde_json::from_str(line).map_err(|error| corrupt(&error))?;
            let modules =
                change.modules.into_iter().map(|(name, module)| (name, Some(Arc::new(module.into()))));
            let names = modules.chain(change.gone.into_iter().map(|name| (name, None))).collect();
            let change = Change { base: change.base, revision: change.revision, names };
            if !self.apply(change) {
                return Err(corrupt(&"it continues another index"));
            }
        }
        Ok(self)
    }
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::internal(format!("cannot write the index: {error}"))
}

impl Change {
    /// Returns the line of the change in a log.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn to_line(&self) -> Result<String> {
        let modules =
            self.names.iter().filter_map(|(name, module)| Some((name.clone(), (&**module.as_ref()?).into())));
        let (modules, gone) = (modules.collect(), self.gone().cloned().collect());
        let line = FileChange { base: self.base, revision: self.revision, gone, modules };
        serde_json::to_string(&line).map(|line| line + "\n").map_err(unwritable)
    }

    /// Returns the names that were removed.
    pub fn gone(&self) -> impl Iterator<Item = &Name> {
        self.names.iter().filter(|(_, module)| module.is_none()).map(|(name, _)| name)
    }

    /// Returns the text form of the names that were not removed: an index that has only these.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn to_json(&self) -> Result<String> {
        let modules = self.names.iter().filter_map(|(name, module)| Some((name.clone(), module.clone()?)));
        Index { revision: self.revision, modules: modules.collect() }.to_json()
    }

    /// Reads a change that was made to the revision `base`: the names that were removed, and the text form of the others.
    ///
    /// # Errors
    /// Those of [`Index::from_json`]; `BAD_ARGUMENTS` if a name is none; `MODULE_CORRUPT` if one was removed and has a module.
    pub fn from_parts<'a>(base: u64, gone: impl Iterator<Item = &'a str>, text: &str) -> Result<Change> {
        let Index { revision, modules } = Index::from_json(text)?;
        let mut names: BTreeMap<_, _> =
            modules.into_iter().map(|(name, module)| (name, Some(module))).collect();
        for name in gone {
            let corrupt = || Error::new(Code::ModuleCorrupt, "a change removes a name that it also has");
            let name = name.parse::<Name>()?;
            if names.insert(name, None).flatten().is_some() {
                return Err(corrupt());
            }
        }
        Ok(Change { base, revision, names })
    }
}

impl From<FileModule> for Module {
    fn from(file: FileModule) -> Module {
        let versions = file.versions.into_iter().map(|(version, entry)| (version, entry.into()));
        Module { pinned: file.pinned, versions: versions.collect() }
    }
}

impl From<&Module> for FileModule {
    fn from(module: &Module) -> FileModule {
        let versions = module.versions.iter().map(|(version, entry)| (version.clone(), entry.into()));
        FileModule { pinned: module.pinned.clone(), versions: versions.collect() }
    }
}

impl From<FileEntry> for Entry {
    fn from(file: FileEntry) -> Entry {
        Entry {
            sha256: file.sha256,
            size: file.size,
            kind: match file.kind {
                FileKind::Core => Kind::Core,
                FileKind::Component => Kind::Component,
            },
            main: file.main,
            exports: file.exports,
            types: TypeNames::from_spelled(file.types),
            uploaded: file.uploaded,
        }
    }
}

impl From<&Entry> for FileEntry {
    fn from(entry: &Entry) -> FileEntry {
        FileEntry {
            sha256: entry.sha256,
            size: entry.size,
            kind: match entry.kind {
                Kind::Core => FileKind::Core,
                Kind::Component => FileKind::Component,
            },
            main: entry.main,
            exports: entry.exports.clone(),
            types: entry.types.iter().map(|(name, spelled)| (name.to_owned(), spelled.to_owned())).collect(),
            uploaded: entry.uploaded.clone(),
        }
    }
}
