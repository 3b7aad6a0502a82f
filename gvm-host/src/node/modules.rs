//! A node's view of modules: which bytes a name means, in the home and in the network.
//!
//! In: the index, announced by gpmd while it is connected, read from the home's file otherwise; what gpmd finds on other
//! devices. Out: the hash and the verified bytes of a module. Must not know: how modules are run, how devices are reached.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::id::{Hash, Name, parse_version};
use crate::modules::index::Index;
use crate::modules::inspect::Kind;
use crate::modules::names::TypeNames;
use crate::modules::store::{self, Reader};

/// The module that a name refers to.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    pub hash: Hash,
    pub component: bool,
}

/// Modules of other devices.
pub trait Elsewhere: Send + Sync {
    /// Returns the hash that another device, or this one the last time, has under a name.
    fn find(&self, name: Name, version: Option<semver::Version>) -> Answer<Option<Hash>>;

    /// Gets the bytes of a module into the home's folder of fetched modules, from this device or any other one that has them.
    fn fetch(&self, hash: Hash, from: Option<DeviceId>) -> Answer<()>;
}

/// The answer to a question.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// A name that was found on another device, and when.
type Found = HashMap<(Name, Option<semver::Version>), (Hash, Instant)>;

/// How long a name that was found on another device means the same.
const FOUND: Duration = Duration::from_secs(2);

/// The most names that are remembered for that long.
const MOST_FOUND: usize = 1024;

/// A view of the home's index. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Modules(Arc<Inner>);

struct Inner {
    home: Home,
    index: RwLock<Arc<Index>>,
    /// Reads the file again when it has changed.
    reader: Mutex<Reader>,
    /// Whether gpmd announces every change.
    subscribed: AtomicBool,
    /// Set when the node has registered. `None` for a node that runs only modules of its own home.
    elsewhere: OnceLock<Arc<dyn Elsewhere>>,
    found: Mutex<Found>,
}

impl Modules {
    /// Reads the index of the home.
    ///
    /// # Errors
    /// Those of reading the index.
    pub fn open(home: Home) -> Result<Modules> {
        let mut reader = Reader::new(&home);
        let index = reader.read()?;
        Ok(Modules::with(home, reader, index))
    }

    /// Creates a view that reads the index when a name is resolved, for a process that may not need it.
    pub fn unread(home: Home) -> Modules {
        let reader = Reader::new(&home);
        Modules::with(home, reader, Arc::default())
    }

    fn with(home: Home, reader: Reader, index: Arc<Index>) -> Modules {
        let (index, reader) = (RwLock::new(index), Mutex::new(reader));
        let (subscribed, elsewhere, found) = Default::default();
        Modules(Arc::new(Inner { home, index, reader, subscribed, elsewhere, found }))
    }

    /// Also finds modules of other devices from now on.
    pub(super) fn look_elsewhere(&self, elsewhere: Arc<dyn Elsewhere>) {
        let _ = self.0.elsewhere.set(elsewhere);
    }

    /// Returns the home.
    pub(super) fn home(&self) -> &Home {
        &self.0.home
    }

    /// Returns the version of a stored module that has this hash.
    pub fn version_of(&self, name: &Name, hash: Hash) -> Option<semver::Version> {
        let index = self.0.index.read().unwrap_or_else(PoisonError::into_inner);
        let versions = &index.modules.get(name)?.versions;
        versions.iter().find(|(_, entry)| entry.sha256 == hash).map(|(version, _)| version.clone())
    }

    /// Returns the hash that other devices have under a name; `None` if none has it, or this node runs only modules of its
    /// own home.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING`.
    pub async fn find_elsewhere(
        &self,
        name: &Name,
        version: Option<&semver::Version>,
    ) -> Result<Option<Hash>> {
        let Some(elsewhere) = self.0.elsewhere.get() else { return Ok(None) };
        let wanted = (name.clone(), version.cloned());
        let known = self.0.found.lock().unwrap_or_else(PoisonError::into_inner).get(&wanted).copied();
        if let Some((hash, _)) = known.filter(|(_, at)| at.elapsed() < FOUND) {
            return Ok(Some(hash));
        }
        let found = elsewhere.find(wanted.0.clone(), wanted.1.clone()).await?;
        let mut known = self.0.found.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_FOUND {
            known.clear();
        }
        match found {
            Some(hash) => drop(known.insert(wanted, (hash, Instant::now()))),
            None => drop(known.remove(&wanted)),
        }
        Ok(found)
    }

    /// Returns the bytes of a module of this home or another device. Gets them first if this home does not have them; `from`
    /// is a device that has them.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND` if no device that can be reached has them; `MODULE_CORRUPT`, `STORAGE_FULL`, `GPMD_NOT_RUNNING`.
    pub async fn obtain(&self, hash: Hash, from: Option<DeviceId>) -> Result<Arc<[u8]>> {
        let missing = || {
            Error::new(Code::ModuleNotFound, format!("no device that can be reached has the module {hash}"))
                .with_help("`gpmd devices` shows which devices are up")
        };
        if self.0.home.module(hash).exists() {
            return self.read(hash).await;
        }
        if let Some(bytes) = self.read_fetched(hash).await? {
            return Ok(bytes);
        }
        self.0.elsewhere.get().ok_or_else(missing)?.fetch(hash, from).await?;
        self.read_fetched(hash).await?.ok_or_else(missing)
    }

    async fn read_fetched(&self, hash: Hash) -> Result<Option<Arc<[u8]>>> {
        let home = self.0.home.clone();
        Ok(blocking(move || store::read_fetched(&home, hash)).await?.map(Into::into))
    }

    /// Stores the index that gpmd announced; gpmd also announces later changes. After `None`, reads the file.
    pub fn announced(&self, index: Option<Arc<Index>>) {
        let subscribed = index.is_some();
        if let Some(index) = index {
            *self.0.index.write().unwrap_or_else(PoisonError::into_inner) = index;
        }
        self.0.subscribed.store(subscribed, Ordering::Release);
    }

    /// Returns the latest index that is in memory.
    pub fn index(&self) -> Arc<Index> {
        self.0.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the names of the types of a stored module: `name` or `name@1.2.3`. Empty if it is not known.
    pub fn type_names(&self, title: &str) -> TypeNames {
        let (name, version) =
            title.split_once('@').map_or((title, None), |(name, version)| (name, Some(version)));
        let index = self.index();
        let version = version.map(parse_version).transpose();
        let found = version.and_then(|version| index.resolve(name, version.as_ref()));
        found.map(|found| found.entry.types.clone()).unwrap_or_default()
    }

    /// Returns the hash that a name refers to, if that is known without reading a file.
    pub fn resolve_now(&self, name: &Name, version: Option<&semver::Version>) -> Option<Hash> {
        if !self.0.subscribed.load(Ordering::Acquire) {
            return None;
        }
        let index = self.0.index.read().unwrap_or_else(PoisonError::into_inner);
        index.resolve(name.as_str(), version).ok().map(|found| found.entry.sha256)
    }

    /// Returns the module that a name refers to.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND` with similar names; those of reading the index.
    pub async fn resolve(&self, name: &Name, version: Option<&semver::Version>) -> Result<Stored> {
        let index = self.current().await?;
        let found = index.resolve(name.as_str(), version)?;
        Ok(Stored { hash: found.entry.sha256, component: found.entry.kind == Kind::Component })
    }

    /// Returns the current index. Reads its file if gpmd does not announce changes.
    ///
    /// # Errors
    /// Those of reading the index.
    pub async fn current(&self) -> Result<Arc<Index>> {
        if !self.0.subscribed.load(Ordering::Acquire) {
            let inner = self.0.clone();
            let read = move || inner.reader.lock().unwrap_or_else(PoisonError::into_inner).read();
            let index = blocking(read).await?;
            *self.0.index.write().unwrap_or_else(PoisonError::into_inner) = index;
        }
        Ok(self.index())
    }

    /// Returns the bytes of a module.
    ///
    /// # Errors
    /// `MODULE_CORRUPT` if they differ from what was uploaded.
    pub async fn read(&self, hash: Hash) -> Result<Arc<[u8]>> {
        let home = self.0.home.clone();
        blocking(move || store::read_module(&home, hash)).await.map(Into::into)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::internal(error.to_string())))
}
