//! A node's view of the home's modules: which bytes a name means.
//!
//! In: the index, announced by gpmd while it is connected, read from the home's file otherwise. Out: the hash
//! and the verified bytes of a module. Must not know: how modules are run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::base::error::Result;
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
        Modules(Arc::new(Inner { home, index, reader, subscribed: AtomicBool::new(false) }))
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
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(crate::base::error::Error::internal(error.to_string())))
}
