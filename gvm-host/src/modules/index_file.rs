//! The file of the index, `ghost.modules.json`.
//!
//! In: an index, or the text of the file. Out: the other of the two. These types are the layout of the file and
//! nothing else: the wire and `--json` have their own. Must not know: where the file is.

use std::collections::BTreeMap;
use std::sync::Arc;

use semver::Version;
use serde::{Deserialize, Serialize};

use super::index::{Change, Entry, Index, Module};
use super::inspect::Kind;
use super::names::TypeNames;
use crate::base::error::{Code, Error, Result};
use crate::base::id::{Hash, Name};

/// The layout that this version writes, and the only one it reads.
const FORMAT: u32 = 1;

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

impl Index {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// `MODULE_CORRUPT` with line and column; `VERSION_MISMATCH` for a later format.
    pub fn from_json(text: &str) -> Result<Index> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let corrupt = |error: serde_json::Error| Error::new(Code::ModuleCorrupt, error.to_string());
        let Format { format } = serde_json::from_str(text).map_err(corrupt)?;
        if format != FORMAT {
            let message = format!("the index has format {format}; this program reads format {FORMAT}");
            return Err(
                Error::new(Code::VersionMismatch, message).with_help("install a newer release of GVM")
            );
        }
        let file: File = serde_json::from_str(text).map_err(corrupt)?;
        let modules =
            file.modules.into_iter().map(|(name, module)| (name, Arc::new(module.into()))).collect();
        Ok(Index { revision: file.revision, modules })
    }

    /// The text of the file.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn to_json(&self) -> Result<String> {
        let modules = self.modules.iter().map(|(name, module)| (name.clone(), (&**module).into())).collect();
        let text = serde_json::to_string_pretty(&File { format: FORMAT, revision: self.revision, modules });
        text.map(|text| text + "\n")
            .map_err(|error| Error::internal(format!("cannot write the index: {error}")))
    }
}

impl Change {
    /// Returns the text form of the change: an index that has at most one name.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn to_json(&self) -> Result<String> {
        let module = self.module.iter().map(|module| (self.name.clone(), module.clone()));
        Index { revision: self.revision, modules: module.collect() }.to_json()
    }

    /// Reads the text form of a change of this name, made to the revision `base`.
    ///
    /// # Errors
    /// Those of [`Index::from_json`]; `MODULE_CORRUPT` if it has other names.
    pub fn from_json(base: u64, name: Name, text: &str) -> Result<Change> {
        let Index { revision, mut modules } = Index::from_json(text)?;
        let module = modules.remove(&name);
        match modules.is_empty() {
            true => Ok(Change { base, revision, name, module }),
            false => Err(Error::new(Code::ModuleCorrupt, "a change of one module names others")),
        }
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
