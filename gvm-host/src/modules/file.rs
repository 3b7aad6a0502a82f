//! Modules in files that a person names by their path.
//!
//! In: a path. Out: the module's bytes in binary form; or only its hash and kind, if the home remembers them and the file has not
//! changed since (`base/unchanged.rs`). Must not know: stored modules, and whether compiled code exists.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{inspect, is_component};
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::id::Hash;
use crate::base::limits;
use crate::base::unchanged::{Memory, Version};

/// An open file with a module.
#[derive(Debug)]
pub struct ModuleFile {
    path: PathBuf,
    file: File,
    version: Version,
    /// Whether it is a component, once it was read as a binary.
    component: Option<bool>,
}

/// What a file contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// The SHA-256 of its bytes.
    pub hash: Hash,
    /// Whether it is a component.
    pub component: bool,
}

impl ModuleFile {
    /// Opens a file, and reads nothing yet.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND` if the file cannot be opened.
    pub fn open(path: &Path) -> Result<ModuleFile> {
        let opened = File::open(path).and_then(|file| Ok((Version::of(&file)?, file)));
        let (version, file) = opened.map_err(|error| unreadable(path, error))?;
        Ok(ModuleFile { path: path.to_owned(), file, version, component: None })
    }

    /// Returns what the file contains, if the home remembers it and the file has not changed since.
    pub fn known(&self, home: &Home) -> Option<Content> {
        let fact = Memory::new(home.known()).recall(&self.version)?;
        let (hash, component) = match fact.split_once(' ')? {
            (hash, "component") => (hash, true),
            (hash, "core") => (hash, false),
            _ => return None,
        };
        Some(Content { hash: hash.parse().ok()?, component })
    }

    /// Reads the module; converts text to binary.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND` if the file cannot be read; `MODULE_INVALID`; `LIMIT_EXCEEDED` if it is too large.
    pub fn read(&mut self) -> Result<Arc<[u8]>> {
        let unreadable = |error| unreadable(&self.path, error);
        // The bytes of a module are read to the place where they stay. A file can have more or fewer than it says.
        let length = self.version.size().min(limits::MODULE_BYTES);
        let mut module: Arc<[u8]> = std::iter::repeat_n(0, usize::try_from(length).unwrap_or(0)).collect();
        let place = Arc::get_mut(&mut module).unwrap_or_default();
        let expected = place.len();
        let read = read_up_to(&mut self.file, place).map_err(unreadable)?;
        let mut rest = Vec::new();
        let left = limits::MODULE_BYTES + 1 - read as u64;
        Read::by_ref(&mut self.file).take(left).read_to_end(&mut rest).map_err(unreadable)?;
        if (read + rest.len()) as u64 > limits::MODULE_BYTES {
            return Err(Error::new(
                Code::LimitExceeded,
                format!("`{}` is larger than {} MiB", self.path.display(), limits::MODULE_BYTES >> 20),
            ));
        }
        if read < expected || !rest.is_empty() {
            module = [&module[..read], &rest].concat().into();
        }
        match inspect::to_binary(&module)? {
            Cow::Borrowed(binary) => {
                self.component = Some(is_component(binary));
                Ok(module)
            }
            Cow::Owned(binary) => Ok(binary.into()),
        }
    }

    /// Remembers in the home what the file contains: the hash of what [`ModuleFile::read`] returned. Text is not remembered,
    /// because another version of the assembler may convert it to another binary.
    pub fn remember(&self, home: &Home, hash: Hash) {
        let Some(component) = self.component else { return };
        let kind = if component { "component" } else { "core" };
        Memory::new(home.known()).note(&self.version, &self.file, &format!("{hash} {kind}"));
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Code::ModuleNotFound, format!("cannot read `{}`: {error}", path.display())).with_source(error)
}

/// Reads until the end of the file, or until the place is full.
fn read_up_to(file: &mut File, place: &mut [u8]) -> std::io::Result<usize> {
    let mut read = 0;
    while read < place.len() {
        match file.read(&mut place[read..]) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
