//! Stores compiled code by content: a module is compiled once, and every process of the home maps the result.
//!
//! In: a module's hash, and its bytes if they must be compiled. Out: code that is mapped and ready. A file has the
//! module's SHA-256 as its name, in a folder that has the engine's compatibility hash as its name; its checksum is
//! in a second file, with the names of the functions that are lifted async. It is checked once, until the file changes or the system is started again. Damage, other versions and races cost a recompilation and nothing else. Must not know: names
//! and versions of modules.

use std::fs::{File, TryLockError};
use std::hash::{Hash as _, Hasher};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::Engine;
use xxhash_rust::xxh3::Xxh3;

use super::compiler::Compiler;
use super::config::Kind;
use super::module::Code as Compiled;
use super::tidy::{self, CODE, KNOWN, LOCK, Most, SUM, TURN, WORK};
use crate::base::durable;
use crate::base::error::{Error, Reason, Result};
use crate::base::id::Hash;
use crate::base::limits;
use crate::base::unchanged::{Memory, Version};
use crate::imports::state::from_system;
use crate::modules::translate::LiftedAsync;

/// The version of the checks that a module passes before it is compiled (`Lane::compile`). Increase it when one
/// is added: code that was compiled without that check is then no longer used.
const CHECKS: u32 = 2;

/// The compiled code of one home for one kind of engine.
#[derive(Clone)]
pub(super) struct Cache {
    /// The folder of all engines.
    root: PathBuf,
    /// The folder of this engine.
    folder: PathBuf,
    /// The code that had its checksum.
    known: Memory,
    kind: Kind,
    compiler: Compiler,
}

impl Cache {
    /// Creates the cache of a kind. `engine` has the same settings, but may be of the other model: so that nobody must
    /// start an engine to see that it has no code.
    pub fn new(root: &Path, engine: &Engine, kind: Kind, compiler: Compiler) -> Cache {
        let mut hasher = Xxh3::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        CHECKS.hash(&mut hasher);
        kind.model.hash(&mut hasher);
        let folder = root.join(format!("{:016x}", hasher.finish()));
        let known = Memory::new(root.join(KNOWN));
        Cache { root: root.to_owned(), folder, known, kind, compiler }
    }

    /// The kind of engine that the code is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the module's code, if it is stored and undamaged.
    pub fn load(&self, engine: &Engine, hash: Hash, component: bool) -> Option<Compiled> {
        let path = self.code(hash);
        let noted = durable::read_text(&self.sum(hash)).ok()?;
        let mut lines = noted.lines();
        if !self.is_whole(&path, lines.next()?)? {
            tracing::warn!(%hash, "compiled code is damaged; compiling the module again");
            return None;
        }
        match map(engine, &path, component, lines.map(str::to_owned).collect()) {
            Ok(code) => {
                tidy::used(&self.sum(hash));
                Some(code)
            }
            Err(error) => {
                tracing::warn!(%hash, "compiled code does not load; compiling the module again: {error:#}");
                None
            }
        }
    }

    /// Whether the file has this checksum. It is read, unless it had the checksum before and has not changed since; then
    /// its pages are mapped from memory, or from a disk that may fail after any check. `None` if it cannot be read.
    fn is_whole(&self, path: &Path, expected: &str) -> Option<bool> {
        let file = File::open(path).ok()?;
        let version = Version::of(&file).ok()?;
        if self.known.recall(&version).as_deref() == Some(expected) {
            return Some(true);
        }
        // The checksum ends with the length.
        let length = file.metadata().ok()?.len().to_string();
        if expected.rsplit(' ').next() != Some(&length) {
            return Some(false);
        }
        let whole = checksum(&file)? == expected;
        if whole {
            self.known.note(&version, &file, expected);
        }
        Some(whole)
    }

    /// Whether the module's code seems to be stored. Only [`Cache::load`] knows whether it can be used.
    pub fn holds(&self, hash: Hash) -> bool {
        self.sum(hash).exists()
    }

    /// Returns the module's code, and compiles it first if needed: only once, even if several processes ask.
    ///
    /// # Errors
    /// Those of [`Compiler::compile`]; `STORAGE_FULL` and `INTERNAL` of the disk.
    pub async fn load_or_compile(
        &self,
        engine: &Engine,
        hash: Hash,
        component: bool,
        bytes: &[u8],
        lifted: LiftedAsync,
    ) -> Result<Compiled> {
        if let Some(code) = self.load(engine, hash, component) {
            return Ok(code);
        }
        let lock_path = self.folder.join(format!("{hash}.{LOCK}"));
        let lock = self.acquire(&lock_path).await?;
        // The previous holder of the lock may have compiled it.
        let code = match self.load(engine, hash, component) {
            Some(code) => Ok(code),
            None => {
                let code = self.compile(engine, hash, component, bytes, lifted).await;
                self.tidy().await;
                code
            }
        };
        // Remove the file before the lock is released: the next holder sees that its file is gone (see `acquire`).
        let _ = std::fs::remove_file(&lock_path);
        drop(lock);
        code
    }

    async fn compile(
        &self,
        engine: &Engine,
        hash: Hash,
        component: bool,
        bytes: &[u8],
        lifted: LiftedAsync,
    ) -> Result<Compiled> {
        let disk = |error| self.unkept(error);
        let work = tempfile::Builder::new().prefix(WORK).tempdir_in(&self.folder).map_err(disk)?;
        let wasm = work.path().join("wasm");
        let code = work.path().join("code");
        let sum = work.path().join("sum");
        std::fs::write(&wasm, bytes).map_err(disk)?;
        let turn = self.turn().await?;
        self.compiler.compile(self.kind, &wasm, &code).await?;
        drop(turn);
        let checksum = File::open(&code).ok().and_then(|code| checksum(&code));
        let checksum = checksum.ok_or_else(|| Error::internal("the compiler wrote no code"))?;
        // The names of exports have no spaces, so they are lines.
        let noted =
            std::iter::once(&checksum).chain(&lifted).map(|line| format!("{line}\n")).collect::<String>();
        std::fs::write(&sum, noted).map_err(disk)?;
        // The checksum comes last: code with no checksum, or an older one, is compiled again.
        std::fs::rename(&code, self.code(hash)).map_err(disk)?;
        std::fs::rename(&sum, self.sum(hash)).map_err(disk)?;
        map(engine, &self.code(hash), component, lifted).map_err(|error| {
            let failed = Error::internal(format!("cannot load compiled code: {error:#}"));
            let failed = match denied(&error) {
                true => failed.with_reason(Reason::NotExecutable),
                false => failed,
            };
            failed.with_source(error)
        })
    }

    /// Waits until this home may run another compiler: one per processor, over all processes of the home. The calls
    /// of this process wait for a semaphore first, so only a few of them poll the locks of the home.
    async fn turn(&self) -> Result<(SemaphorePermit<'static>, File)> {
        static LINE: OnceLock<Semaphore> = OnceLock::new();
        let most = limits::compilers();
        let line = LINE.get_or_init(|| Semaphore::new(most)).acquire().await;
        let place = line.map_err(|_| Error::internal("this process no longer compiles modules"))?;
        let path = |number: usize| self.root.join(format!("{TURN}{number}.{LOCK}"));
        let files: Vec<File> = (0..most)
            .map(|number| File::options().create(true).append(true).open(path(number)))
            .collect::<std::io::Result<_>>()
            .map_err(|error| self.unkept(error))?;
        let mut files: Vec<Option<File>> = files.into_iter().map(Some).collect();
        loop {
            for file in &mut files {
                match file.as_ref().map(File::try_lock) {
                    Some(Ok(())) => {
                        if let Some(file) = file.take() {
                            return Ok((place, file));
                        }
                    }
                    Some(Err(TryLockError::Error(error))) => return Err(self.unkept(error)),
                    Some(Err(TryLockError::WouldBlock)) | None => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Removes old code to make room for what was just added. A failure does not fail the call.
    async fn tidy(&self) {
        let root = self.root.clone();
        let most = Most { age: limits::COMPILED_AGE, bytes: limits::COMPILED_BYTES };
        let tidied = tokio::task::spawn_blocking(move || tidy::tidy(&root, most, SystemTime::now())).await;
        match tidied {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => {
                tracing::info!(removed, "removed compiled code that was not used for a long time")
            }
            Ok(Err(error)) => tracing::warn!("cannot remove old compiled code: {error}"),
            Err(error) => tracing::error!("cannot remove old compiled code: {error}"),
        }
    }

    fn unkept(&self, error: std::io::Error) -> Error {
        Error::io(format_args!("cannot store compiled code in {}", self.folder.display()), error)
    }

    fn code(&self, hash: Hash) -> PathBuf {
        self.folder.join(format!("{hash}.{CODE}"))
    }

    fn sum(&self, hash: Hash) -> PathBuf {
        self.folder.join(format!("{hash}.{SUM}"))
    }

    /// Locks the file, and waits for it without blocking the thread. Locks the new file if the last holder has
    /// removed the file meanwhile.
    async fn acquire(&self, path: &Path) -> Result<File> {
        let disk = |error| self.unkept(error);
        loop {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.folder)
                .map_err(|error| self.unkept(error))?;
            let file = match File::options().create(true).append(true).open(path) {
                // The folder was empty, and `tidy` has just removed it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(disk)?,
            };
            loop {
                match file.try_lock() {
                    Ok(()) => break,
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
                    Err(TryLockError::Error(error)) => return Err(disk(error)),
                }
            }
            let same = |meta: std::fs::Metadata| file.metadata().is_ok_and(|mine| mine.ino() == meta.ino());
            if std::fs::metadata(path).is_ok_and(same) {
                return Ok(file);
            }
        }
    }
}

/// Returns the checksum and the length of a file. The checksum is fast and not cryptographic: the folder is private
/// to its owner, and the checksum detects failing disks and incomplete writes.
fn checksum(mut file: &File) -> Option<String> {
    // Code can have many megabytes, which are not kept here: the pages that run are mapped.
    let mut part = vec![0; 256 << 10];
    let (mut hasher, mut length) = (Xxh3::new(), 0);
    loop {
        match file.read(&mut part) {
            Ok(0) => return Some(format!("{:032x} {length}", hasher.digest128())),
            Ok(count) => {
                hasher.update(&part[..count]);
                length += count;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Whether the system refuses to execute the code: the disk, or a security policy, forbids it.
fn denied(error: &wasmtime::Error) -> bool {
    from_system(error, &[Errno::ACCESS, Errno::PERM])
}

fn map(engine: &Engine, path: &Path, component: bool, lifted: LiftedAsync) -> wasmtime::Result<Compiled> {
    if component {
        // SAFETY: the file is in a folder of mode 0700 in this user's home. Our own compiler child wrote it for
        // this engine configuration, and it has just passed its checksum.
        let component = unsafe { wasmtime::component::Component::deserialize_file(engine, path)? };
        Ok(Compiled::Component(component, lifted))
    } else {
        // SAFETY: as above.
        let module = unsafe { wasmtime::Module::deserialize_file(engine, path)? };
        Ok(Compiled::Core(module))
    }
}
