//! Compiled code, kept by content: what the compiler made once, every process of the home maps.
//!
//! In: a module's hash, and its bytes where they must be compiled. Out: code that is mapped and ready.
//! A file is named by the module's SHA-256 inside a folder named by the engine's compatibility hash;
//! beside it stands its checksum. Damage, foreign versions and races cost a recompilation and nothing
//! else. Must not know: names and versions of modules.

use std::fs::{File, TryLockError};
use std::hash::{Hash as _, Hasher};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::Engine;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::compiler::Compiler;
use super::config::Kind;
use super::module::Code as Compiled;
use super::tidy::{self, CODE, LOCK, Most, SUM, TURN, WORK};
use crate::base::error::{Error, Reason, Result};
use crate::base::id::Hash;
use crate::base::limits;

/// The version of the checks that a module passes before it is compiled (`Lane::compile`). Increase it when one
/// is added: code that was compiled without that check is then no longer used.
const CHECKS: u32 = 1;

/// The compiled code of one home for one engine.
pub(super) struct Cache {
    /// Of all engines.
    root: PathBuf,
    /// Of this one.
    folder: PathBuf,
    kind: Kind,
    compiler: Compiler,
}

impl Cache {
    pub fn new(root: &Path, engine: &Engine, kind: Kind, compiler: Compiler) -> Cache {
        let mut hasher = Xxh3::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        CHECKS.hash(&mut hasher);
        let folder = root.join(format!("{:016x}", hasher.finish()));
        Cache { root: root.to_owned(), folder, kind, compiler }
    }

    /// The kind of engine that the code is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The module's code, if it is there and whole.
    pub fn load(&self, engine: &Engine, hash: Hash, component: bool) -> Option<Compiled> {
        let path = self.code(hash);
        let expected = std::fs::read_to_string(self.sum(hash)).ok()?;
        if checksum(&path)? != expected.trim() {
            tracing::warn!(%hash, "compiled code is damaged and will be made again");
            return None;
        }
        match map(engine, &path, component) {
            Ok(code) => {
                tidy::used(&self.sum(hash));
                Some(code)
            }
            Err(error) => {
                tracing::warn!(%hash, "compiled code does not load and will be made again: {error:#}");
                None
            }
        }
    }

    /// Whether the module's code seems to be there, which [`Cache::load`] finds out.
    pub fn holds(&self, hash: Hash) -> bool {
        self.sum(hash).exists()
    }

    /// The module's code, compiled first where need be: once, whoever asks, in whichever process.
    ///
    /// # Errors
    /// Those of [`Compiler::compile`]; `STORAGE_FULL` and `INTERNAL` of the disk.
    pub async fn load_or_compile(
        &self,
        engine: &Engine,
        hash: Hash,
        component: bool,
        bytes: &[u8],
    ) -> Result<Compiled> {
        if let Some(code) = self.load(engine, hash, component) {
            return Ok(code);
        }
        let lock_path = self.folder.join(format!("{hash}.{LOCK}"));
        let lock = self.acquire(&lock_path).await?;
        // Whoever held the lock before may have made it.
        let code = match self.load(engine, hash, component) {
            Some(code) => Ok(code),
            None => {
                let code = self.compile(engine, hash, component, bytes).await;
                self.tidy().await;
                code
            }
        };
        // Gone while it is still held: the next one sees that its lock is of no file (see `acquire`).
        let _ = std::fs::remove_file(&lock_path);
        drop(lock);
        code
    }

    async fn compile(&self, engine: &Engine, hash: Hash, component: bool, bytes: &[u8]) -> Result<Compiled> {
        let disk = |error| self.unkept(error);
        let work = tempfile::Builder::new().prefix(WORK).tempdir_in(&self.folder).map_err(disk)?;
        let wasm = work.path().join("wasm");
        let code = work.path().join("code");
        let sum = work.path().join("sum");
        std::fs::write(&wasm, bytes).map_err(disk)?;
        let turn = self.turn().await?;
        self.compiler.compile(self.kind, &wasm, &code).await?;
        drop(turn);
        let checksum = checksum(&code).ok_or_else(|| Error::internal("the compiler left no code"))?;
        std::fs::write(&sum, checksum).map_err(disk)?;
        // The sum last: code without its sum, or with an older one, is made again.
        std::fs::rename(&code, self.code(hash)).map_err(disk)?;
        std::fs::rename(&sum, self.sum(hash)).map_err(disk)?;
        map(engine, &self.code(hash), component).map_err(|error| {
            let failed = Error::internal(format!("compiled code cannot be loaded: {error:#}"));
            let failed = match denied(&error) {
                true => failed.with_reason(Reason::NotExecutable),
                false => failed,
            };
            failed.with_source(error)
        })
    }

    /// Waits until this home may have another compiler: as many as there are processors, whichever processes
    /// ask. Those of this process wait in line; so the home's locks are tried by a few at a time.
    async fn turn(&self) -> Result<(SemaphorePermit<'static>, File)> {
        static LINE: OnceLock<Semaphore> = OnceLock::new();
        let most = limits::compilers();
        let line = LINE.get_or_init(|| Semaphore::new(most)).acquire().await;
        let place = line.map_err(|_| Error::internal("nothing is compiled any more"))?;
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

    /// Makes room for what was just added. That it fails is no reason to fail a call.
    async fn tidy(&self) {
        let root = self.root.clone();
        let most = Most { age: limits::COMPILED_AGE, bytes: limits::COMPILED_BYTES };
        let tidied = tokio::task::spawn_blocking(move || tidy::tidy(&root, most, SystemTime::now())).await;
        match tidied {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => tracing::info!(removed, "compiled code that was not used for long is removed"),
            Ok(Err(error)) => tracing::warn!("clearing away compiled code: {error}"),
            Err(error) => tracing::error!("clearing away compiled code: {error}"),
        }
    }

    fn unkept(&self, error: std::io::Error) -> Error {
        Error::io(format_args!("compiled code cannot be kept in {}", self.folder.display()), error)
    }

    fn code(&self, hash: Hash) -> PathBuf {
        self.folder.join(format!("{hash}.{CODE}"))
    }

    fn sum(&self, hash: Hash) -> PathBuf {
        self.folder.join(format!("{hash}.{SUM}"))
    }

    /// Holds the file's lock, waiting without holding up the thread; a lock of a file that its last
    /// holder removed meanwhile is taken anew.
    async fn acquire(&self, path: &Path) -> Result<File> {
        let disk = |error| self.unkept(error);
        loop {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.folder)
                .map_err(|error| self.unkept(error))?;
            let file = match File::options().create(true).append(true).open(path) {
                // The folder was empty, and was cleared away just now.
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

/// The checksum of a file and its length. Fast rather than cryptographic: the folder is private to
/// its owner, and what it guards against is a failing disk and a torn write.
fn checksum(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(format!("{:032x} {}", xxh3_128(&bytes), bytes.len()))
}

/// Whether the system does not let the code be executed: the disk, or a security policy, forbids it.
fn denied(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        let errno = cause.downcast_ref::<Errno>().copied();
        let errno = errno.or_else(|| cause.downcast_ref().and_then(Errno::from_io_error));
        errno.is_some_and(|errno| errno == Errno::ACCESS || errno == Errno::PERM)
    })
}

fn map(engine: &Engine, path: &Path, component: bool) -> wasmtime::Result<Compiled> {
    if component {
        // SAFETY: the file lies in a folder of mode 0700 of this user's home, was written there by
        // our own compiler child for this very engine configuration, and has just passed its checksum.
        let component = unsafe { wasmtime::component::Component::deserialize_file(engine, path)? };
        Ok(Compiled::Component(component))
    } else {
        // SAFETY: as above.
        let module = unsafe { wasmtime::Module::deserialize_file(engine, path)? };
        Ok(Compiled::Core(module))
    }
}
