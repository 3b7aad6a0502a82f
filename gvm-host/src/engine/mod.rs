//! From a module's bytes and a call to its outcome.
//!
//! In: bytes by their hash, entries, values, limits, grants, streams. Out: values and coded errors.
//! `wasmtime` is named here and in `imports/` only. Must not know: names of modules, nodes, sockets,
//! the terminal.
//!
//! The data's path: `cache` and `compiler` make code (`tidy` clears it away), `module` links it, `lookup` finds a function,
//! `instance` runs it through `canonical` (or `types`, for core functions), `fault` says what went wrong.

mod cache;
pub mod canonical;
pub mod compiler;
mod config;
mod fault;
mod instance;
mod misfit;
mod module;
mod room;
mod tidy;
pub mod types;

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use futures::FutureExt;
use futures::future::{Shared, WeakShared};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

pub use self::compiler::Compiler;
pub use self::instance::{Instance, Setup};
pub use self::module::{Entry, Function, Module};

use self::cache::Cache;
use self::config::{Clocked, Kind};
use crate::base::error::{Code, Error, Result};
use crate::base::id::Hash;
use crate::base::limits::{self, Limits};
use crate::base::value::Value;
use crate::imports::Linkers;
use crate::modules::{inspect, is_component, offered};

/// What an engine needs to know of its surroundings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Whether calls come often enough to keep slots ready for them.
    pub pooling: bool,
    /// The folder for compiled code, private to its owner.
    pub compiled: PathBuf,
    pub compiler: Compiler,
}

impl EngineConfig {
    /// An engine that keeps compiled code in this folder, which must be private to its owner, and has this
    /// program compile. It keeps slots ready for calls that come often.
    pub fn new(compiled: impl Into<PathBuf>, compiler: Compiler) -> EngineConfig {
        EngineConfig { pooling: true, compiled: compiled.into(), compiler }
    }

    /// Whether slots are kept ready: a call on a fresh instance takes a quarter of the time then, and the first
    /// call of the process some milliseconds more.
    #[must_use]
    pub fn pooling(mut self, pooling: bool) -> EngineConfig {
        self.pooling = pooling;
        self
    }
}

/// Loads modules and runs them. Cheap to clone; clones share what is loaded.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    settings: EngineConfig,
    plain: OnceLock<Lane>,
    fuelled: OnceLock<Lane>,
}

/// One kind of engine with what is loaded in it.
struct Lane {
    clocked: Clocked,
    linkers: Linkers,
    cache: Cache,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<Hash, Slot>,
    clock: u64,
}

struct Slot {
    used: u64,
    place: Arc<Place>,
}

/// A module's place: the module, once it is loaded, and its loading while anybody waits for that.
#[derive(Default)]
struct Place {
    module: OnceLock<Arc<Module>>,
    loading: Mutex<Option<WeakShared<Loading>>>,
}

type Loading = Pin<Box<dyn Future<Output = Result<Arc<Module>, Arc<Error>>> + Send>>;

impl Place {
    /// The loading that is under way, begun where there is none. Whoever drops the last one stops it.
    fn join(&self, begin: impl FnOnce() -> Loading) -> Shared<Loading> {
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loading) = loading.as_ref().and_then(WeakShared::upgrade) {
            return loading;
        }
        let begun = begin().shared();
        *loading = begun.downgrade();
        begun
    }
}

impl Engine {
    /// An engine over this process's wasmtime engines. Cheap: they start with the first call.
    pub fn new(settings: EngineConfig) -> Engine {
        Engine(Arc::new(Inner { settings, plain: OnceLock::new(), fuelled: OnceLock::new() }))
    }

    fn lane(&self, fuel: bool) -> Result<&Lane> {
        let slot = if fuel { &self.0.fuelled } else { &self.0.plain };
        if let Some(lane) = slot.get() {
            return Ok(lane);
        }
        let settings = &self.0.settings;
        // A call that counts fuel is rare: it does without slots kept ready.
        let kind = Kind { pooling: settings.pooling && !fuel, fuel };
        let clocked = Clocked::get(kind)?;
        let linkers = Linkers::new(&clocked.engine)
            .map_err(|error| Error::internal(format!("linking WASI: {error:#}")))?;
        let cache = Cache::new(&settings.compiled, &clocked.engine, kind, settings.compiler.clone());
        Ok(slot.get_or_init(|| Lane { clocked, linkers, cache, loaded: Mutex::default() }))
    }

    /// The module if it is loaded already: no waiting, no disk.
    pub fn loaded(&self, hash: Hash, limits: &Limits) -> Option<Arc<Module>> {
        let lane = self.lane(limits.fuel.is_some()).ok()?;
        lane.slot(hash).module.get().cloned()
    }

    /// The module with these bytes, compiled first where need be. `bytes` is polled only where no
    /// compiled code is kept. Whoever comes meanwhile waits for the same work, which goes on for as long as
    /// anybody waits and is stopped then, its compiler with it. Who asks for much has `turns`: where code
    /// must be made, one is taken for that. To be called on a tokio runtime.
    ///
    /// # Errors
    /// Those of `bytes`; `MODULE_INVALID`, `LIMIT_EXCEEDED`, `STORAGE_FULL` of the compilation;
    /// `IMPORT_UNSATISFIED`.
    pub async fn load(
        &self,
        hash: Hash,
        component: bool,
        limits: &Limits,
        turns: Option<&Semaphore>,
        bytes: impl Future<Output = Result<Arc<[u8]>>> + Send + 'static,
    ) -> Result<Arc<Module>> {
        let fuel = limits.fuel.is_some();
        let lane = self.lane(fuel)?;
        let place = lane.slot(hash);
        if let Some(module) = place.module.get() {
            return Ok(module.clone());
        }
        let _turn = match turns {
            // It is never closed.
            Some(turns) if !lane.cache.holds(hash) => turns.acquire().await.ok(),
            _ => None,
        };
        let loading = place.join(|| {
            let (this, place) = (self.clone(), place.clone());
            let load = async move {
                if let Some(module) = place.module.get() {
                    return Ok(module.clone());
                }
                let module = this.lane(fuel)?.load(hash, component, bytes).await?;
                Ok(place.module.get_or_init(|| module).clone())
            };
            let task = AbortOnDropHandle::new(tokio::spawn(load));
            Box::pin(async move {
                let loaded = task.await;
                let loaded =
                    loaded.unwrap_or_else(|error| Err(Error::internal(format!("loading ended: {error}"))));
                loaded.map_err(Arc::new)
            })
        });
        loading.await.map_err(|error| error.again())
    }

    /// Compiles the module so that its first call finds the code.
    ///
    /// # Errors
    /// As of [`Engine::load`].
    pub async fn precompile(&self, hash: Hash, bytes: &[u8]) -> Result<()> {
        self.lane(false)?.compile(hash, is_component(bytes), bytes.into()).await.map(drop)
    }

    /// A new instance.
    ///
    /// # Errors
    /// As of its start code.
    pub async fn instantiate(&self, module: Arc<Module>, setup: Setup<'_>) -> Result<Instance> {
        let lane = self.lane(setup.limits.fuel.is_some())?;
        Instance::create(&lane.clocked, module, setup).await
    }

    /// One run on a fresh instance: nothing leaks from call to call. Dropping the future stops the
    /// guest.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` and `OVERLOADED` before it starts; `TRAP`, `GUEST_EXIT` and `LIMIT_EXCEEDED`
    /// after. Time is bounded by whoever polls.
    pub async fn run(
        &self,
        module: Arc<Module>,
        entry: Entry,
        args: Vec<Value>,
        setup: Setup<'_>,
    ) -> Result<Option<Value>> {
        let started = Instant::now();
        let limits = setup.limits;
        let mut instance = match (self.instantiate(module.clone(), setup).await, entry) {
            (Ok(instance), _) => instance,
            // A program may be done before its main begins.
            (Err(error), Entry::Main) if error.code() == Code::GuestExit && error.exit() == Some(0) => {
                return Ok(None);
            }
            (Err(error), _) => return Err(error),
        };
        let result = instance.call(entry, args, &limits).await;
        drop(instance);
        if let Some(function) = module.function(entry) {
            function.ran(started.elapsed());
        }
        result
    }
}

/// Looks into a module on a thread that may take its time.
async fn looked_at(bytes: &Arc<[u8]>, look: impl FnOnce(&[u8]) -> Result<()> + Send + 'static) -> Result<()> {
    let bytes = bytes.clone();
    tokio::task::spawn_blocking(move || look(&bytes))
        .await
        .unwrap_or_else(|error| Err(Error::internal(format!("looking into the module ended: {error}"))))
}

impl Lane {
    async fn load(
        &self,
        hash: Hash,
        component: bool,
        bytes: impl Future<Output = Result<Arc<[u8]>>>,
    ) -> Result<Arc<Module>> {
        let engine = &self.clocked.engine;
        let code = match self.cache.load(engine, hash, component) {
            Some(code) => code,
            None => self.compile(hash, component, bytes.await?).await?,
        };
        Module::link(engine, &self.linkers, hash, code).map(Arc::new)
    }

    /// The module's code. What cannot run is not compiled.
    async fn compile(&self, hash: Hash, component: bool, bytes: Arc<[u8]>) -> Result<module::Code> {
        let kind = self.cache.kind();
        looked_at(&bytes, move |bytes| {
            let (wanting, needs) = inspect::needs(bytes)?;
            offered::check(&wanting)?;
            room::check(&needs, kind)
        })
        .await?;
        let compiled = self.cache.load_or_compile(&self.clocked.engine, hash, component, &bytes).await;
        match compiled {
            // The compiler finds what is wrong in functions; what a whole look says of it is plainer.
            Err(error) if error.code() == Code::ModuleInvalid => {
                looked_at(&bytes, |bytes| inspect::inspect(bytes).map(drop)).await?;
                Err(error)
            }
            compiled => compiled,
        }
    }

    /// The module's place, made where it has none; the one least recently used makes room.
    fn slot(&self, hash: Hash) -> Arc<Place> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.clock += 1;
        let now = loaded.clock;
        if let Some(slot) = loaded.modules.get_mut(&hash) {
            slot.used = now;
            return slot.place.clone();
        }
        if loaded.modules.len() >= limits::LOADED_MODULES {
            let oldest = loaded.modules.iter().min_by_key(|(_, slot)| slot.used).map(|(hash, _)| *hash);
            oldest.map(|hash| loaded.modules.remove(&hash));
        }
        let place = Arc::<Place>::default();
        loaded.modules.insert(hash, Slot { used: now, place: place.clone() });
        place
    }
}
