//! The home's modules on disk: files named by the hash of their content, and the index of them.
//!
//! In: uploads, removals, pins. Out: changes that are durable when they are acknowledged, and the
//! bytes of modules, checked. Must not know: connections, how a module is run. One process writes (gpmd);
//! any process can read.
//!
//! The store creates a module's file before it adds the module to the index, and removes the file after it
//! removes the module from the index. So the index never names a file that does not exist, even after a crash.
//! When the store opens, it removes the files that a crash left behind.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use semver::Version;
use tempfile::NamedTempFile;

use super::index::{Change, Entry, Index};
use crate::base::durable;
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::id::{Hash, Name};
use crate::base::limits;
use crate::modules::inspect::{self, ModuleInfo};

/// The age from which an unfinished file in the home folder counts as left over. Other processes write small
/// files there too.
const LEFT_OVER: Duration = Duration::from_secs(600);

/// The writer's side, for gpmd. `Send + Sync`. Changes wait for the disk, so make them on threads
/// that may block.
#[derive(Debug)]
pub struct Store {
    home: Home,
    index: Mutex<Arc<Index>>,
    /// Locked during a change, so that there is one change at a time.
    changing: Mutex<()>,
}

/// An upload that is a valid module and not stored yet. Dropping it removes its file.
#[derive(Debug)]
pub struct Checked {
    file: NamedTempFile,
    pub hash: Hash,
    pub size: u64,
    pub info: ModuleInfo,
}

impl Store {
    /// Opens the home's store, and removes the files that crashed uploads and removals left behind.
    ///
    /// # Errors
    /// `MODULE_CORRUPT` or `VERSION_MISMATCH` if the index cannot be read; then this changes and removes
    /// nothing. `INTERNAL`.
    pub fn open(home: &Home) -> Result<Store> {
        let index = read_index(home)?;
        durable::sweep(home.path(), LEFT_OVER)?;
        durable::sweep(&home.modules(), Duration::ZERO)?;
        durable::sweep(&home.shared(), Duration::ZERO)?;
        durable::place_too(&home.index(), &home.shared())?;
        if home.index().exists() {
            remove_orphans(home, &index)?;
        }
        Ok(Store { home: home.clone(), index: Mutex::new(Arc::new(index)), changing: Mutex::new(()) })
    }

    /// Returns the current index.
    pub fn index(&self) -> Arc<Index> {
        lock(&self.index).clone()
    }

    /// Creates a file for the bytes of an upload, in the folder where the module will be stored.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `INTERNAL`.
    pub fn begin(&self) -> Result<NamedTempFile> {
        durable::unfinished(&self.home.modules())
    }

    /// Validates an upload, and assembles text. The time grows with the size of the module.
    ///
    /// # Errors
    /// `MODULE_INVALID`, `STORAGE_FULL`, `INTERNAL`.
    pub fn check(&self, upload: NamedTempFile) -> Result<Checked> {
        let fail = |error| Error::io("cannot read the uploaded bytes", error);
        let bytes = fs::read(upload.path()).map_err(fail)?;
        let binary = inspect::to_binary(&bytes)?;
        let info = inspect::inspect(&binary)?;
        let file = match &binary {
            std::borrow::Cow::Borrowed(_) => upload,
            std::borrow::Cow::Owned(binary) => {
                let mut file = self.begin()?;
                std::io::Write::write_all(&mut file, binary)
                    .map_err(|error| Error::io("cannot store the module", error))?;
                file
            }
        };
        durable::finish(file.as_file(), file.path())?;
        Ok(Checked { file, hash: Hash::of(&binary), size: binary.len() as u64, info })
    }

    /// Stores a checked upload under a name and version. The change is durable when this returns. Returns whether
    /// the version is new. Storing the same bytes again repairs a damaged file.
    ///
    /// # Errors
    /// `MODULE_EXISTS`, `STORAGE_FULL`, `INTERNAL`; then the store is unchanged.
    pub fn store(
        &self,
        name: &Name,
        version: &Version,
        upload: Checked,
        now: SystemTime,
    ) -> Result<(Entry, bool)> {
        let uploaded = humantime::format_rfc3339_seconds(now).to_string();
        let entry = Entry::new(upload.hash, upload.size, &upload.info, uploaded);
        self.change(|index| {
            let created = index.add(name, version, entry)?;
            durable::place(upload.file.into_temp_path(), &self.home.module(upload.hash))?;
            let entry = index.resolve(name.as_str(), Some(version))?.entry.clone();
            Ok((entry, created))
        })
    }

    /// Removes a version of a module, or all of them. Returns the removed versions. Calls that run continue.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND`, `STORAGE_FULL`, `INTERNAL`.
    pub fn remove(&self, name: &str, version: Option<&Version>) -> Result<Vec<Version>> {
        let before = self.index();
        let gone = self.change(|index| index.remove(name, version))?;
        let _changing = lock(&self.changing);
        let after = self.index();
        for removed in before.entries().map(|resolved| resolved.entry.sha256) {
            if !after.holds(removed) {
                let _ = fs::remove_file(self.home.module(removed));
            }
        }
        Ok(gone)
    }

    /// Chooses the version for requests without a version; see [`Index::pin`].
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND`, `STORAGE_FULL`, `INTERNAL`.
    pub fn pin(&self, name: &str, version: Option<&Version>) -> Result<()> {
        self.change(|index| index.pin(name, version))
    }

    /// Changes the index on disk, then in memory. Changes neither if the change or the write fails.
    fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let _changing = lock(&self.changing);
        let before = self.index();
        let mut index = (*before).clone();
        let result = change(&mut index)?;
        // Every acknowledged change is on the disk, even if somebody has removed or damaged the file since.
        let is_intact = || read_index(&self.home).is_ok_and(|written| written == *before);
        if index.revision != before.revision || !is_intact() {
            durable::write(&self.home.index(), index.to_json()?.as_bytes())?;
            durable::place_too(&self.home.index(), &self.home.shared())?;
            *lock(&self.index) = Arc::new(index);
        }
        Ok(result)
    }
}

/// What a person can do about a damaged index.
const RESTORE: &str = "correct the file, or move it away and upload the modules again";

/// Reads a home's index. It is empty if nothing was stored yet.
///
/// # Errors
/// `MODULE_CORRUPT`, `VERSION_MISMATCH`, `INTERNAL`.
pub fn read_index(home: &Home) -> Result<Index> {
    let path = home.index();
    let text = match durable::read_text(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Index::default()),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            let message = format!("cannot read `{}`: {error}", path.display());
            return Err(Error::new(Code::ModuleCorrupt, message).with_help(RESTORE));
        }
        Err(error) => return Err(Error::io(format_args!("cannot read `{}`", path.display()), error)),
    };
    Index::from_json(&text).map_err(|error| {
        let message = format!("cannot read `{}`: {}", path.display(), error.message());
        let help = error.help().unwrap_or(RESTORE);
        Error::new(error.code(), message).with_help(help.to_owned()).with_source(error)
    })
}

/// Reads a module's bytes and checks their hash.
///
/// # Errors
/// `MODULE_CORRUPT` if the file is damaged or missing; `INTERNAL`.
pub fn read_module(home: &Home, hash: Hash) -> Result<Vec<u8>> {
    let path = home.module(hash);
    let corrupt = |what: &str| {
        Error::new(Code::ModuleCorrupt, format!("`{}` {what}", path.display()))
            .with_help("upload the module again")
    };
    let bytes = match durable::read(&path, limits::MODULE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(corrupt("is missing")),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(corrupt("has changed since it was uploaded"));
        }
        Err(error) => return Err(Error::io(format_args!("cannot read `{}`", path.display()), error)),
    };
    if Hash::of(&bytes) != hash { Err(corrupt("has changed since it was uploaded")) } else { Ok(bytes) }
}

/// Reads the bytes of a module that another device has sent, and checks their hash. `None` if this home has not kept it, or
/// the file is damaged.
///
/// # Errors
/// `INTERNAL`.
pub fn read_fetched(home: &Home, hash: Hash) -> Result<Option<Vec<u8>>> {
    let path = home.fetched_module(hash);
    let fail = |error| Error::io(format_args!("cannot read `{}`", path.display()), error);
    let mut file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(limits::MODULE_BYTES).read_to_end(&mut bytes).map_err(fail)?;
    // gpmd removes the modules first that were not used for the longest time.
    let _ = file.set_modified(SystemTime::now());
    Ok(Some(bytes).filter(|bytes| Hash::of(bytes) == hash))
}

/// The reader's side, for processes other than gpmd. It reads the index again when the file changes.
#[derive(Debug)]
pub struct Reader {
    home: Home,
    stamp: Option<Stamp>,
    index: Arc<Index>,
}

/// Identifies one version of a file: its inode, the time of its last change, and its size.
type Stamp = (u64, i64, i64, u64);

impl Reader {
    /// Creates a reader, which reads nothing yet.
    pub fn new(home: &Home) -> Reader {
        Reader { home: home.clone(), stamp: None, index: Arc::default() }
    }

    /// Returns the index in the file.
    ///
    /// # Errors
    /// `MODULE_CORRUPT`, `VERSION_MISMATCH`, `INTERNAL`.
    pub fn read(&mut self) -> Result<Arc<Index>> {
        let stamp = stamp(&self.home.index());
        if stamp.is_none() || stamp != self.stamp {
            self.index = Arc::new(read_index(&self.home)?);
            self.stamp = stamp;
        }
        Ok(self.index.clone())
    }

    /// Returns the index after a change that gpmd has made to the file. Reads the file if the index that was read last is another one
    /// than the one that changed.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    pub fn follow(&mut self, change: Change) -> Result<Arc<Index>> {
        match self.index.with(change) {
            Some(index) => {
                // The file may have changed again.
                (self.index, self.stamp) = (Arc::new(index), None);
                Ok(self.index.clone())
            }
            None => self.read(),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}

/// Removes the module files that are not in the index.
fn remove_orphans(home: &Home, index: &Index) -> Result<()> {
    let folder = home.modules();
    let fail = |error| Error::io(format_args!("cannot read `{}`", folder.display()), error);
    for entry in fs::read_dir(&folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let hash = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<Hash>().ok());
        if path.extension().is_some_and(|ext| ext == "wasm") && hash.is_some_and(|hash| !index.holds(hash)) {
            let _ = fs::remove_file(path);
        }
    }
    Ok(())
}

/// Reads the module that a person names on the command line: a file, or `-` for `stdin`.
///
/// # Errors
/// `MODULE_INVALID` if it is larger than [`limits::MODULE_BYTES`] or cannot be read.
pub fn read_source(path: &Path, stdin: &mut dyn Read) -> Result<Vec<u8>> {
    let shown =
        if path.as_os_str() == "-" { "standard input".into() } else { format!("`{}`", path.display()) };
    let fail = |error: std::io::Error| {
        Error::new(Code::ModuleInvalid, format!("cannot read {shown}: {error}")).with_source(error)
    };
    let mut bytes = Vec::new();
    let mut source: Box<dyn Read + '_> = match path.to_str() {
        Some("-") => Box::new(stdin),
        _ => Box::new(fs::File::open(path).map_err(fail)?),
    };
    source.by_ref().take(limits::MODULE_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limits::MODULE_BYTES {
        return Err(too_large());
    }
    Ok(bytes)
}

/// Returns the error of a module that is larger than [`limits::MODULE_BYTES`].
pub fn too_large() -> Error {
    Error::new(Code::ModuleInvalid, format!("the module is larger than {} MiB", limits::MODULE_BYTES >> 20))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const ADD: &str = r#"(module (func (export "add") (param i32 i32) (result i32) local.get 0))"#;
    const SUB: &str = r#"(module (func (export "sub") (param i32 i32) (result i32) local.get 0))"#;

    struct Bed {
        _folder: tempfile::TempDir,
        home: Home,
        store: Store,
    }

    fn bed() -> Bed {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        let store = Store::open(&home).unwrap();
        Bed { _folder: folder, home, store }
    }

    fn upload(store: &Store, version: &str, wat: &str) -> Result<(Entry, bool)> {
        let mut file = store.begin().unwrap();
        file.write_all(wat.as_bytes()).unwrap();
        let checked = store.check(file)?;
        store.store(&"math".parse().unwrap(), &version.parse().unwrap(), checked, SystemTime::UNIX_EPOCH)
    }

    fn files(home: &Home) -> usize {
        fs::read_dir(home.modules()).unwrap().count()
    }

    #[test]
    fn stores_and_reads_back() {
        let bed = bed();
        let (entry, created) = upload(&bed.store, "1.0.0", ADD).unwrap();
        assert!(created);
        assert_eq!(entry.exports, ["add: func(p0: s32, p1: s32) -> s32"]);
        assert_eq!(entry.uploaded, "1970-01-01T00:00:00Z");
        assert_eq!(read_module(&bed.home, entry.sha256).unwrap().len() as u64, entry.size);
        assert_eq!(read_index(&bed.home).unwrap(), *bed.store.index());
        assert!(!upload(&bed.store, "1.0.0", ADD).unwrap().1);
        assert_eq!(upload(&bed.store, "1.0.0", SUB).unwrap_err().code(), Code::ModuleExists);
        assert_eq!(files(&bed.home), 1);
    }

    #[test]
    fn an_invalid_upload_leaves_nothing() {
        let bed = bed();
        assert_eq!(upload(&bed.store, "1.0.0", "(module").unwrap_err().code(), Code::ModuleInvalid);
        assert_eq!(files(&bed.home), 0);
        assert!(!bed.home.index().exists());
    }

    #[test]
    fn a_file_is_removed_with_its_last_version() {
        let bed = bed();
        upload(&bed.store, "1.0.0", ADD).unwrap();
        upload(&bed.store, "2.0.0", ADD).unwrap();
        bed.store.remove("math", Some(&"1.0.0".parse().unwrap())).unwrap();
        assert_eq!(files(&bed.home), 1);
        bed.store.remove("math", None).unwrap();
        assert_eq!(files(&bed.home), 0);
        assert_eq!(bed.store.remove("math", None).unwrap_err().code(), Code::ModuleNotFound);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_can_be_repaired() {
        let bed = bed();
        let (entry, _) = upload(&bed.store, "1.0.0", ADD).unwrap();
        fs::write(bed.home.module(entry.sha256), b"\0asm damaged").unwrap();
        assert_eq!(read_module(&bed.home, entry.sha256).unwrap_err().code(), Code::ModuleCorrupt);
        upload(&bed.store, "1.0.0", ADD).unwrap();
        read_module(&bed.home, entry.sha256).unwrap();
        fs::remove_file(bed.home.module(entry.sha256)).unwrap();
        assert_eq!(read_module(&bed.home, entry.sha256).unwrap_err().code(), Code::ModuleCorrupt);
    }

    #[test]
    fn leftovers_of_crashes_are_removed() {
        let bed = bed();
        let (entry, _) = upload(&bed.store, "1.0.0", ADD).unwrap();
        // Crashes during an upload, between the renames of the module and of the index, and between writing and
        // renaming the index.
        bed.store.begin().unwrap().into_temp_path().keep().unwrap();
        fs::write(bed.home.module(Hash::of(b"orphan")), b"orphan").unwrap();
        durable::unfinished(bed.home.path()).unwrap().into_temp_path().keep().unwrap();
        let before = fs::read(bed.home.index()).unwrap();
        let store = Store::open(&bed.home).unwrap();
        assert_eq!(files(&bed.home), 1);
        assert_eq!(fs::read(bed.home.index()).unwrap(), before);
        assert!(store.index().holds(entry.sha256));
        read_module(&bed.home, entry.sha256).unwrap();
    }

    #[test]
    fn an_index_that_was_removed_or_damaged_is_written_with_the_next_change() {
        let bed = bed();
        upload(&bed.store, "1.0.0", ADD).unwrap();
        fs::remove_file(bed.home.index()).unwrap();
        assert!(!upload(&bed.store, "1.0.0", ADD).unwrap().1, "nothing is new");
        assert_eq!(read_index(&bed.home).unwrap(), *bed.store.index());
        fs::write(bed.home.index(), "{").unwrap();
        bed.store.pin("math", None).unwrap();
        assert_eq!(read_index(&bed.home).unwrap(), *bed.store.index());
    }

    #[test]
    fn an_index_that_cannot_be_read_is_left_alone() {
        let bed = bed();
        let (entry, _) = upload(&bed.store, "1.0.0", ADD).unwrap();
        fs::write(bed.home.index(), "{ \"format\": 1, oops").unwrap();
        let error = Store::open(&bed.home).unwrap_err();
        assert_eq!(error.code(), Code::ModuleCorrupt);
        assert!(error.message().contains("line 1"), "{error}");
        assert_eq!(fs::read_to_string(bed.home.index()).unwrap(), "{ \"format\": 1, oops");
        read_module(&bed.home, entry.sha256).unwrap();
        fs::remove_file(bed.home.index()).unwrap();
        Store::open(&bed.home).unwrap();
        read_module(&bed.home, entry.sha256).unwrap();
    }

    #[test]
    fn a_reader_sees_what_changed() {
        let bed = bed();
        let mut reader = Reader::new(&bed.home);
        assert_eq!(reader.read().unwrap().revision, 0);
        upload(&bed.store, "1.0.0", ADD).unwrap();
        let index = reader.read().unwrap();
        assert_eq!(*index, *bed.store.index());
        assert!(Arc::ptr_eq(&index, &reader.read().unwrap()));
    }
}
