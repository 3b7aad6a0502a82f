//! Keys and values that outlast a guest: `wasi:keyvalue`.
//!
//! In: requests of a guest. Out: what the store of its module has (`database`). A node grants it; a store belongs to the name of
//! a stored module, and every node of a home has the same stores. Must not know: how a module got its name.

mod database;

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};

use self::bindings::wasi::keyvalue::{atomics, batch, store};
use self::database::{Database, Failed, check};
use super::state::State;
use crate::base::id::Name;
use crate::base::limits;

mod bindings {
    wasmtime::component::bindgen!({
        inline: "
            package wasi:keyvalue@0.2.0-draft;

            interface store {
                variant error { no-such-store, access-denied, other(string) }
                record key-response { keys: list<string>, cursor: option<u64> }
                open: func(identifier: string) -> result<bucket, error>;
                resource bucket {
                    get: func(key: string) -> result<option<list<u8>>, error>;
                    set: func(key: string, value: list<u8>) -> result<_, error>;
                    delete: func(key: string) -> result<_, error>;
                    exists: func(key: string) -> result<bool, error>;
                    list-keys: func(cursor: option<u64>) -> result<key-response, error>;
                }
            }

            interface atomics {
                use store.{bucket, error};
                increment: func(bucket: borrow<bucket>, key: string, delta: u64) -> result<u64, error>;
            }

            interface batch {
                use store.{bucket, error};
                get-many: func(bucket: borrow<bucket>, keys: list<string>)
                    -> result<list<option<tuple<string, list<u8>>>>, error>;
                set-many: func(bucket: borrow<bucket>, key-values: list<tuple<string, list<u8>>>) -> result<_, error>;
                delete-many: func(bucket: borrow<bucket>, keys: list<string>) -> result<_, error>;
            }

            world imports {
                import store;
                import atomics;
                import batch;
            }
        ",
        world: "imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
        trappable_error_type: { "wasi:keyvalue/store.error" => super::Refused },
    });
}

/// The stores of a home. Cheap to clone; clones share the open stores.
#[derive(Clone)]
pub struct Stores(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    open: Mutex<HashMap<Name, Arc<Database>>>,
}

impl Stores {
    /// Returns the stores in this folder, which is created with the first one.
    pub fn new(folder: PathBuf) -> Stores {
        Stores(Arc::new(Inner { folder, open: Mutex::default() }))
    }

    /// Returns the store of a module. Waits for the disk.
    fn of(&self, module: &Name) -> Result<Arc<Database>, Failed> {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = open.get(module) {
            return Ok(database.clone());
        }
        // Whatever makes this fail is the error of the database.
        let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0.folder);
        let database = Arc::new(Database::open(&self.0.folder.join(format!("{module}.sqlite")))?);
        if open.len() >= limits::KEYVALUE_OPEN {
            // Buckets that are open keep theirs.
            open.clear();
        }
        open.insert(module.clone(), database.clone());
        Ok(database)
    }
}

/// What a guest may use: nothing by default. Cheap to clone.
#[derive(Clone, Default)]
pub enum Keyvalue {
    /// Nothing: the node does not grant it.
    #[default]
    Denied,
    /// Nothing: the module is not stored in the home, so it has no name to which a store could belong.
    Unnamed,
    /// The store of the module with this name.
    Of(Stores, Name),
}

/// A bucket that a guest has opened: a part of the store of its module, with keys of its own.
pub struct Bucket {
    database: Arc<Database>,
    name: Arc<str>,
}

/// Why a guest gets no answer.
pub enum Refused {
    Error(store::Error),
    /// It uses a bucket that it does not have, or has too many resources.
    Table(ResourceTableError),
}

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Refused {
        Refused::Error(store::Error::Other(failed.to_string()))
    }
}

impl From<ResourceTableError> for Refused {
    fn from(error: ResourceTableError) -> Refused {
        Refused::Table(error)
    }
}

/// What the functions of the interfaces work with.
pub(crate) struct View<'a> {
    access: &'a Keyvalue,
    table: &'a mut ResourceTable,
}

struct Keyvalues;

impl HasData for Keyvalues {
    type Data<'a> = View<'a>;
}

impl Keyvalue {
    pub(super) fn view<'a>(&'a self, table: &'a mut ResourceTable) -> View<'a> {
        View { access: self, table }
    }
}

/// Defines `store`, `atomics` and `batch` of `wasi:keyvalue`.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<_, Keyvalues>(linker, State::keyvalue)?;
    atomics::add_to_linker::<_, Keyvalues>(linker, State::keyvalue)?;
    batch::add_to_linker::<_, Keyvalues>(linker, State::keyvalue)
}

/// Does work that waits for the disk.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Refused> {
    Ok(wasmtime_wasi::runtime::spawn_blocking(work).await?)
}

impl View<'_> {
    /// Works with a bucket.
    async fn with<T: Send + 'static>(
        &mut self,
        bucket: &Resource<Bucket>,
        work: impl FnOnce(&Database, &str) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Refused> {
        let Bucket { database, name } = self.table.get(bucket)?;
        let (database, name) = (database.clone(), name.clone());
        apart(move || work(&database, &name)).await
    }
}

impl store::Host for View<'_> {
    async fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Refused> {
        let (stores, module) = match self.access {
            Keyvalue::Denied => return Err(Refused::Error(store::Error::AccessDenied)),
            Keyvalue::Unnamed => {
                let why = "only a module that is stored in the home of its node has a store";
                return Err(Refused::Error(store::Error::Other(why.to_owned())));
            }
            Keyvalue::Of(stores, module) => (stores.clone(), module.clone()),
        };
        check("name of a bucket", identifier.len(), limits::KEYVALUE_KEY)?;
        let database = apart(move || stores.of(&module)).await?;
        Ok(self.table.push(Bucket { database, name: identifier.into() })?)
    }

    fn convert_error(&mut self, refused: Refused) -> wasmtime::Result<store::Error> {
        match refused {
            Refused::Error(error) => Ok(error),
            Refused::Table(error) => Err(error.into()),
        }
    }
}

impl store::HostBucket for View<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>, Refused> {
        self.with(&bucket, move |database, bucket| database.get(bucket, &key)).await
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<(), Refused> {
        self.with(&bucket, move |database, bucket| database.set_many(bucket, &[(key, value)])).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<(), Refused> {
        self.with(&bucket, move |database, bucket| database.delete_many(bucket, &[key])).await
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<bool, Refused> {
        self.with(&bucket, move |database, bucket| database.exists(bucket, &key)).await
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Result<store::KeyResponse, Refused> {
        let found = self.with(&bucket, move |database, bucket| database.keys(bucket, cursor)).await?;
        let (keys, cursor) = found;
        Ok(store::KeyResponse { keys, cursor })
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Result<u64, Refused> {
        self.with(&bucket, move |database, bucket| database.increment(bucket, &key, delta)).await
    }
}

impl batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, Refused> {
        self.with(&bucket, move |database, bucket| database.get_many(bucket, keys)).await
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Result<(), Refused> {
        self.with(&bucket, move |database, bucket| database.set_many(bucket, &entries)).await
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Result<(), Refused> {
        self.with(&bucket, move |database, bucket| database.delete_many(bucket, &keys)).await
    }
}
