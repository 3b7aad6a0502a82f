//! The home's modules on disk: files named by the hash of their content, and the index of them.
//!
//! In: uploads, removals, pins. Out: changes that are durable when they are acknowledged, and the
//! bytes of modules, checked. Must not know: connections, how a module is run. One process writes (gpmd);
//! any process can read.
//!
//! The store creates a module's file before it adds the module to the index, and removes the file after it
//! removes the module from the index. So the index never names a file that does not exist, even after a crash.
//! When the store opens, it removes the files that a crash left behind.
//!
//! A small index is written whole with each change. A large one has a log of changes beside it, whose name has the revision of the
//! file: the log is created before the file that it continues, and removed after the next one is in its place.

use std::fs;
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use semver::Version;
use tempfile::NamedTempFile;

use super::index::{Change, Entry, Index};
use super::index_file::Snapshot;
use crate::base::durable;
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::id::{Hash, Name};
use crate::base::limits;
use crate::modules::inspect::{self, ModuleInfo};

/// The age from which an unfinished file in the home folder counts as left over. Other processes write small
/// files there too.
const LEFT_OVER: Duration = Duration::from_secs(600);

/// The largest index that is written whole with each change, in bytes: that takes less than a flush of the disk.
const LARGE: usize = 256 << 10;

/// How often an index is read that a writer replaces at the same time.
const TRIES: usize = 10;

/// The writer's side, for gpmd. `Send + Sync`. Changes wait for the disk, so make them on threads
/// that may block.
#[derive(Debug)]
pub struct Store {
    home: Home,
    index: Mutex<Arc<Index>>,
    /// Locked during a change, so that there is one change at a time.
    changing: Mutex<OnDisk>,
}

/// The files of the index, as the last change left them. The next one is written whole if they are different.
#[derive(Debug, Default)]
struct OnDisk {
    stamp: Option<Stamp>,
    /// The bytes of the file.
    size: u64,
    log: Option<Log>,
}

/// The log that changes are appended to.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: fs::File,
    stamp: Option<Stamp>,
    size: u64,
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
        let mut disk = OnDisk::default();
        if home.index().exists() {
            remove_orphans(home, &index)?;
            if !home.index_logs().is_empty() {
                disk.write_whole(home, &index)?;
            }
        }
        Ok(Store { home: home.clone(), index: Mutex::new(Arc::new(index)), changing: Mutex::new(disk) })
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
        let mut disk = lock(&self.changing);
        let before = self.index();
        let mut index = (*before).clone();
        let result = change(&mut index)?;
        // Every acknowledged change is on the disk, even if somebody has removed or damaged the file since.
        let is_intact = || read_index(&self.home).is_ok_and(|written| written == *before);
        if index.revision != before.revision {
            disk.write(&self.home, &before, &index)?;
            *lock(&self.index) = Arc::new(index);
        } else if !is_intact() {
            disk.write_whole(&self.home, &index)?;
        }
        Ok(result)
    }
}

impl OnDisk {
    /// Writes a changed index: its change alone if there is a log that is not yet larger than the file.
    fn write(&mut self, home: &Home, before: &Index, after: &Index) -> Result<()> {
        let is_as_left = self.stamp.is_some() && stamp(&home.index()) == self.stamp;
        match &mut self.log {
            Some(log) if is_as_left && log.size < self.size && stamp(&log.path) == log.stamp => {
                log.append(&after.since(before).to_line()?)
            }
            _ => self.write_whole(home, after),
        }
    }

    fn write_whole(&mut self, home: &Home, index: &Index) -> Result<()> {
        let (text, shared) = (index.to_json()?, home.shared());
        let (text, log) = match text.len() > LARGE {
            true => {
                let path = home.index_log(index.revision);
                durable::write(&path, b"")?;
                durable::place_too(&path, &shared)?;
                let fail = |error| Error::io(format_args!("cannot write `{}`", path.display()), error);
                let file = fs::File::options().append(true).open(&path).map_err(fail)?;
                let stamp = stamp(&path);
                (index.to_json_with_log()?, Some(Log { path, file, stamp, size: 0 }))
            }
            false => (text, None),
        };
        durable::write(&home.index(), text.as_bytes())?;
        durable::place_too(&home.index(), &shared)?;
        *self = OnDisk { stamp: stamp(&home.index()), size: text.len() as u64, log };
        let current = self.log.as_ref().map(|log| &log.path);
        for old in home.index_logs().into_iter().filter(|path| Some(path) != current) {
            let _ = fs::remove_file(&old);
            // Its other name goes too.
            durable::place_too(&old, &shared)?;
        }
        Ok(())
    }
}

impl Log {
    /// Appends a line. The line is durable when this returns. After an error the log is as before, or the next change is written
    /// whole.
    fn append(&mut self, line: &str) -> Result<()> {
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_err() {
            let _ = self.file.set_len(self.size);
        } else {
            self.size += line.len() as u64;
        }
        self.stamp = match fs::metadata(&self.path) {
            Ok(meta) if meta.len() == self.size => stamp(&self.path),
            _ => None,
        };
        written.map_err(|error| Error::io(format_args!("cannot write `{}`", self.path.display()), error))
    }
}

/// What a person can do about a damaged index.
const RESTORE: &str = "correct the file, or move it away and upload the modules again";

/// Reads a home's index. It is empty if nothing was stored yet.
///
/// # Errors
/// `MODULE_CORRUPT`, `VERSION_MISMATCH`, `INTERNAL`.
pub fn read_index(home: &Home) -> Result<Index> {
    read_files(home).map(|(index, _)| index)
}

/// As [`read_index`], with the path of the log if the index has one.
fn read_files(home: &Home) -> Result<(Index, Option<PathBuf>)> {
    let path = home.index();
    for _ in 0..TRIES {
        let Some(text) = read_text(&path)? else { return Ok((Index::default(), None)) };
        let Snapshot { index, has_log } =
            Snapshot::from_json(&text).map_err(|error| unreadable(&path, error))?;
        if !has_log {
            return Ok((index, None));
        }
        let log = home.index_log(index.revision);
        // Without its log, the file has been replaced in the meantime.
        if let Some(text) = read_text(&log)? {
            return index
                .after_log(&text)
                .map(|index| (index, Some(log.clone())))
                .map_err(|error| unreadable(&log, error));
        }
    }
    let sentence = format!("the changes that belong to `{}` are missing", path.display());
    Err(Error::new(Code::ModuleCorrupt, sentence).with_help(RESTORE))
}

/// Reads a file of the index; `None` if it does not exist.
fn read_text(path: &Path) -> Result<Option<String>> {
    match durable::read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            let message = format!("cannot read `{}`: {error}", path.display());
            Err(Error::new(Code::ModuleCorrupt, message).with_help(RESTORE))
        }
        Err(error) => Err(Error::io(format_args!("cannot read `{}`", path.display()), error)),
    }
}

fn unreadable(path: &Path, error: Error) -> Error {
    let message = format!("cannot read `{}`: {}", path.display(), error.message());
    let help = error.help().unwrap_or(RESTORE);
    Error::new(error.code(), message).with_help(help.to_owned()).with_source(error)
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
    /// Of the file, and of its log.
    stamp: Option<(Stamp, Option<Stamp>)>,
    log: Option<PathBuf>,
    index: Arc<Index>,
}

/// Identifies one version of a file: its inode, the time of its last change, and its size.
type Stamp = (u64, i64, i64, u64);

impl Reader {
    /// Creates a reader, which reads nothing yet.
    pub fn new(home: &Home) -> Reader {
        Reader { home: home.clone(), stamp: None, log: None, index: Arc::default() }
    }

    /// Returns the index in the file.
    ///
    /// # Errors
    /// `MODULE_CORRUPT`, `VERSION_MISMATCH`, `INTERNAL`.
    pub fn read(&mut self) -> Result<Arc<Index>> {
        let now = stamp(&self.home.index()).map(|file| (file, self.log.as_deref().and_then(stamp)));
        if now.is_none() || now != self.stamp {
            let (index, log) = read_files(&self.home)?;
            // These stamps are older than what was read, so a change in between is read again. So is another log.
            self.stamp = now.filter(|_| log == self.log);
            (self.index, self.log) = (Arc::new(index), log);
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

    /// Uploads so many modules with names of their own that the index becomes large.
    fn fill(store: &Store) {
        for number in 0..250 {
            let names =
                (0..30).map(|n| format!("(func (export \"a-rather-long-name-{n}\"))")).collect::<String>();
            let mut file = store.begin().unwrap();
            file.write_all(format!("(module {names})").as_bytes()).unwrap();
            let checked = store.check(file).unwrap();
            let name = format!("large{number}").parse().unwrap();
            store.store(&name, &"1.0.0".parse().unwrap(), checked, SystemTime::UNIX_EPOCH).unwrap();
        }
    }

    #[test]
    fn a_large_index_has_a_log() {
        let bed = bed();
        let mut reader = Reader::new(&bed.home);
        fill(&bed.store);
        let size = |home: &Home| fs::metadata(home.index()).unwrap().len();
        let (before, [log]) = (size(&bed.home), &bed.home.index_logs()[..]) else { panic!("one log") };
        assert_eq!(*reader.read().unwrap(), *bed.store.index());
        upload(&bed.store, "1.0.0", ADD).unwrap();
        bed.store.remove("large7", None).unwrap();
        bed.store.pin("large8", Some(&"1.0.0".parse().unwrap())).unwrap();
        assert_eq!(size(&bed.home), before, "only the log has changed");
        let index = reader.read().unwrap();
        assert_eq!((&*index, &read_index(&bed.home).unwrap()), (&*bed.store.index(), &*bed.store.index()));
        assert_eq!(read_index(&bed.home.confined()).unwrap(), *bed.store.index());
        assert!(Arc::ptr_eq(&reader.read().unwrap(), &reader.read().unwrap()));
        // A crash while a line was written: it was not acknowledged.
        let whole = fs::read(log).unwrap();
        fs::write(log, [&whole[..], b"{\"base\": 12"].concat()).unwrap();
        assert_eq!(read_index(&bed.home).unwrap(), *bed.store.index());
        // The log is not as the store left it, so the next change does not trust it.
        upload(&bed.store, "2.0.0", SUB).unwrap();
        assert_eq!(*reader.read().unwrap(), *bed.store.index());
        let before = Index::clone(&bed.store.index());
        upload(&bed.store, "3.0.0", ADD).unwrap();
        let store = Store::open(&bed.home).unwrap();
        assert_eq!((&*store.index(), bed.home.index_logs().len()), (&*bed.store.index(), 1));
        assert_ne!(*store.index(), before);
        let [log] = &bed.home.index_logs()[..] else { panic!("one log") };
        upload(&store, "4.0.0", SUB).unwrap();
        let line = fs::read_to_string(log).unwrap();
        fs::write(log, line.replace("math", "ma\"th")).unwrap();
        let error = read_index(&bed.home).unwrap_err();
        assert_eq!(error.code(), Code::ModuleCorrupt);
        assert!(error.message().contains("line 1 of the log"), "{error}");
        fs::remove_file(log).unwrap();
        assert_eq!(read_index(&bed.home).unwrap_err().code(), Code::ModuleCorrupt);
        upload(&store, "5.0.0", ADD).unwrap();
        assert_eq!(read_index(&bed.home).unwrap(), *store.index());
        (0..250).for_each(|number| drop(store.remove(&format!("large{number}"), None)));
        assert_eq!(read_index(&bed.home).unwrap(), *store.index());
    }

    #[test]
    fn readers_of_a_large_index_see_each_change() {
        let bed = bed();
        fill(&bed.store);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut reader = Reader::new(&bed.home);
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let acknowledged = bed.store.index().revision;
                        assert!(reader.read().unwrap().revision >= acknowledged);
                        assert!(read_index(&bed.home.confined()).unwrap().revision >= acknowledged);
                    }
                });
            }
            for round in 0..100 {
                let version: Version = format!("{round}.0.0").parse().unwrap();
                upload(&bed.store, &version.to_string(), ADD).unwrap();
                bed.store.pin("large8", None).unwrap();
                if round % 20 == 0 {
                    // The next change is written whole.
                    lock(&bed.store.changing).stamp = None;
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
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
