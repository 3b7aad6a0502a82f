//! The home's modules as a node sees them: which bytes a name means.
//!
//! In: the index, by gpmd's subscription while it is up, from the home's file while it is not. Out: a
//! module's hash, and its bytes, checked. Must not know: how modules are run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::base::error::Result;
use crate::base::home::Home;
use crate::base::id::{Hash, Name, parse_version};
use crate::modules::index::Index;
use crate::modules::inspect::Kind;
use crate::modules::names::TypeNames;
use crate::modules::store::{self, Reader};

/// What a name was found to mean.
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
    /// Reads the file again where it has changed.
    reader: Mutex<Reader>,
    /// Whether gpmd tells us of every change.
    told: AtomicBool,
}

impl Modules {
    /// The home's modules as its file has them now.
    ///
    /// # Errors
    /// Those of reading the index.
    pub fn open(home: Home) -> Result<Modules> {
        let mut reader = Reader::new(&home);
        let index = RwLock::new(reader.read()?);
        let told = AtomicBool::new(false);
        Ok(Modules(Arc::new(Inner { home, index, reader: Mutex::new(reader), told })))
    }

    /// Takes gpmd's word for what the index is now, and that it will tell of changes; without its
    /// word the file is read.
    pub fn announced(&self, index: Option<Arc<Index>>) {
        let told = index.is_some();
        if let Some(index) = index {
            *self.0.index.write().unwrap_or_else(PoisonError::into_inner) = index;
        }
        self.0.told.store(told, Ordering::Release);
    }

    /// The index as it is known now.
    pub fn index(&self) -> Arc<Index> {
        self.0.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names that a stored module gives its types: of `name`, or of `name@1.2.3`. None of one that is not known.
    pub fn type_names(&self, title: &str) -> TypeNames {
        let (name, version) =
            title.split_once('@').map_or((title, None), |(name, version)| (name, Some(version)));
        let index = self.index();
        let version = version.map(parse_version).transpose();
        let found = version.and_then(|version| index.resolve(name, version.as_ref()));
        found.map(|found| found.entry.types.clone()).unwrap_or_default()
    }

    /// What a name means, where that is known without reading a file.
    pub fn resolve_now(&self, name: &Name, version: Option<&semver::Version>) -> Option<Hash> {
        if !self.0.told.load(Ordering::Acquire) {
            return None;
        }
        let index = self.0.index.read().unwrap_or_else(PoisonError::into_inner);
        index.resolve(name.as_str(), version).ok().map(|found| found.entry.sha256)
    }

    /// What a name means.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND` with the near names; those of reading the index.
    pub async fn resolve(&self, name: &Name, version: Option<&semver::Version>) -> Result<Stored> {
        let index = self.current().await?;
        let found = index.resolve(name.as_str(), version)?;
        Ok(Stored { hash: found.entry.sha256, component: found.entry.kind == Kind::Component })
    }

    /// The index, read from its file where gpmd does not tell of changes.
    ///
    /// # Errors
    /// Those of reading the index.
    pub async fn current(&self) -> Result<Arc<Index>> {
        if !self.0.told.load(Ordering::Acquire) {
            let inner = self.0.clone();
            let read = move || inner.reader.lock().unwrap_or_else(PoisonError::into_inner).read();
            let index = blocking(read).await?;
            *self.0.index.write().unwrap_or_else(PoisonError::into_inner) = index;
        }
        Ok(self.index())
    }

    /// A module's bytes.
    ///
    /// # Errors
    /// `MODULE_CORRUPT` where they are not what was uploaded.
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
