//! Loads modules and runs calls in them.
//!
//! In: bytes by their hash, entries, values, limits, grants, streams. Out: values and coded errors. Only this folder
//! and `imports/` use `wasmtime`. Must not know: names of modules, nodes, sockets, the terminal.
//!
//! The path of the data: `room` checks what the module needs; `cache` and `compiler` make its code, and `tidy`
//! removes old code; `module` links it, and `misfit` explains why it does not link; `instance` runs a function
//! through `canonical` (or `types`, for core functions); `fault` explains why a guest stopped. `http`
//! runs a request in an instance of a module that serves HTTP.

mod cache;
pub mod canonical;
pub mod compiler;
mod config;
mod fault;
pub mod http;
mod instance;
mod misfit;
mod module;
mod room;
mod tidy;
pub mod types;

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::FutureExt;
use futures::future::{Shared, WeakShared};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

pub use self::compiler::Compiler;
pub use self::instance::{Instance, Setup};
pub use self::module::{Entry, Function, Module};

use self::cache::Cache;
use self::config::{Clocked, Kind, Slots};
use crate::base::error::{Code, Error, Result};
use crate::base::id::Hash;
use crate::base::limits::{self, Limits};
use crate::base::value::Value;
use crate::imports::Linkers;
use crate::modules::{inspect, is_component, offered};

/// The settings of an engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Whether slots are kept ready for calls that come often.
    pub pooling: bool,
    /// The folder for compiled code, private to its owner.
    pub compiled: PathBuf,
    pub compiler: Compiler,
}

impl EngineConfig {
    /// Stores compiled code in this folder, which must be private to its owner, and compiles with this program.
    /// Pooling is on.
    pub fn new(compiled: impl Into<PathBuf>, compiler: Compiler) -> EngineConfig {
        EngineConfig { pooling: true, compiled: compiled.into(), compiler }
    }

    /// Sets whether slots are kept ready. A call on a fresh instance then takes a quarter of the time, and the first
    /// call of the process some milliseconds more.
    #[must_use]
    pub fn pooling(mut self, pooling: bool) -> EngineConfig {
        self.pooling = pooling;
        self
    }
}

/// Loads modules and runs them. Cheap to clone; clones share the loaded modules. `Send + Sync`.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    settings: EngineConfig,
    fresh: OnceLock<Lane>,
    live: OnceLock<Lane>,
    fuelled: OnceLock<Lane>,
}

/// What a module is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Calls on fresh instances.
    Fresh,
    /// Live instances.
    Live,
}

/// One kind of engine, with the modules loaded in it.
struct Lane {
    clocked: &'static Clocked,
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

/// A module once it is loaded, and the loading itself while a call waits for it.
#[derive(Default)]
struct Place {
    module: OnceLock<Arc<Module>>,
    loading: Mutex<Option<WeakShared<Loading>>>,
}

type Loading = Pin<Box<dyn Future<Output = Result<Arc<Module>, Arc<Error>>> + Send>>;

impl Place {
    /// Returns the loading in progress, or starts one. Dropping the last copy stops it.
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
    /// Creates an engine on top of this process's wasmtime engines. Cheap: they start with the first call.
    pub fn new(settings: EngineConfig) -> Engine {
        let [fresh, live, fuelled] = [const { OnceLock::new() }; 3];
        Engine(Arc::new(Inner { settings, fresh, live, fuelled }))
    }

    fn lane(&self, purpose: Purpose, fuel: bool) -> Result<&Lane> {
        let settings = &self.0.settings;
        let (slot, slots) = match (purpose, fuel) {
            // Calls that count fuel are rare, so no slots are kept ready for them.
            (_, true) => (&self.0.fuelled, Slots::None),
            (Purpose::Live, false) if settings.pooling => (&self.0.live, Slots::Live),
            (_, false) if settings.pooling => (&self.0.fresh, Slots::Warm),
            (_, false) => (&self.0.fresh, Slots::None),
        };
        if let Some(lane) = slot.get() {
            return Ok(lane);
        }
        let kind = Kind { slots, fuel };
        let clocked = Clocked::get(kind)?;
        let cache = Cache::new(&settings.compiled, &clocked.engine, kind, settings.compiler.clone());
        Ok(slot.get_or_init(|| Lane {
            clocked,
            linkers: Linkers::default(),
            cache,
            loaded: Mutex::default(),
        }))
    }

    /// Returns the module if it is already loaded for calls on fresh instances. Does not wait, and does not read the
    /// disk.
    pub fn loaded(&self, hash: Hash, limits: &Limits) -> Option<Arc<Module>> {
        self.lane(Purpose::Fresh, limits.fuel.is_some()).ok()?.loaded(hash)
    }

    /// Loads the module with these bytes, and compiles it first if needed. `bytes` is polled only if no compiled
    /// code is stored. Calls for the same module wait for the same work; it stops, with its compiler, when no call
    /// waits for it any more. `turns` limits the compilations of one caller: one permit is taken for each. Must be
    /// called on a tokio runtime.
    ///
    /// # Errors
    /// Those of `bytes`; `MODULE_INVALID`, `LIMIT_EXCEEDED` and `STORAGE_FULL` of the compilation;
    /// `IMPORT_UNSATISFIED`.
    pub async fn load(
        &self,
        hash: Hash,
        component: bool,
        purpose: Purpose,
        limits: &Limits,
        turns: Option<&Semaphore>,
        bytes: impl Future<Output = Result<Arc<[u8]>>> + Send + 'static,
    ) -> Result<Arc<Module>> {
        let fuel = limits.fuel.is_some();
        let lane = self.lane(purpose, fuel)?;
        let place = lane.slot(hash);
        if let Some(module) = place.module.get() {
            return Ok(module.clone());
        }
        let _turn = match turns {
            // The semaphore is never closed.
            Some(turns) if !lane.cache.holds(hash) => turns.acquire().await.ok(),
            _ => None,
        };
        let loading = place.join(|| {
            let (this, place) = (self.clone(), place.clone());
            let load = async move {
                if let Some(module) = place.module.get() {
                    return Ok(module.clone());
                }
                let module = this.lane(purpose, fuel)?.load(hash, component, bytes).await?;
                Ok(place.module.get_or_init(|| module).clone())
            };
            let task = AbortOnDropHandle::new(tokio::spawn(load));
            Box::pin(async move {
                let loaded = task.await;
                let loaded = loaded.unwrap_or_else(|error| {
                    Err(Error::internal(format!("loading the module failed: {error}")))
                });
                loaded.map_err(Arc::new)
            })
        });
        loading.await.map_err(|error| error.again())
    }

    /// Loads the module without its bytes, if its compiled code is stored. Returns whether it is loaded. Waits for the disk.
    pub fn recall(&self, hash: Hash, component: bool, limits: &Limits) -> bool {
        let Ok(lane) = self.lane(Purpose::Fresh, limits.fuel.is_some()) else { return false };
        let place = lane.slot(hash);
        if place.module.get().is_none() {
            let Some(code) = lane.cache.load(&lane.clocked.engine, hash, component) else { return false };
            // An error is the same, and is reported, when the module is loaded from its bytes.
            let Ok(module) = Module::link(lane.clocked, &lane.linkers, hash, code) else { return false };
            place.module.get_or_init(|| Arc::new(module));
        }
        true
    }

    /// Compiles the module in advance, so that its first call finds the code.
    ///
    /// # Errors
    /// As of [`Engine::load`].
    pub async fn precompile(&self, hash: Hash, bytes: &[u8]) -> Result<()> {
        self.lane(Purpose::Fresh, false)?.compile(hash, is_component(bytes), bytes.into()).await.map(drop)
    }

    /// Creates an instance.
    ///
    /// # Errors
    /// Those of its start code; `OVERLOADED` if the process has no room for another instance.
    pub async fn instantiate(&self, module: Arc<Module>, setup: Setup<'_>) -> Result<Instance> {
        pin!(Instance::create(module, setup)).await
    }

    /// Runs one call on a fresh instance, so calls share no state. Dropping the future stops the guest; the caller
    /// limits the time this way.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` and `OVERLOADED` before it starts; `TRAP`, `GUEST_EXIT` and `LIMIT_EXCEEDED` after.
    pub async fn run(
        &self,
        module: Arc<Module>,
        entry: Entry,
        mut args: Vec<Value>,
        setup: Setup<'_>,
    ) -> Result<Option<Value>> {
        let limits = setup.limits;
        let mut instance = match (pin!(self.instantiate(module, setup)).await, entry) {
            (Ok(instance), _) => instance,
            // A program may exit before its main starts.
            (Err(error), Entry::Main) if error.code() == Code::GuestExit && error.exit() == Some(0) => {
                return Ok(None);
            }
            (Err(error), _) => return Err(error),
        };
        pin!(instance.call(entry, &mut args, &limits)).await
    }
}

/// Examines a module on a thread that may block.
async fn looked_at(bytes: &Arc<[u8]>, look: impl FnOnce(&[u8]) -> Result<()> + Send + 'static) -> Result<()> {
    let bytes = bytes.clone();
    tokio::task::spawn_blocking(move || look(&bytes))
        .await
        .unwrap_or_else(|error| Err(Error::internal(format!("examining the module failed: {error}"))))
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
        Module::link(self.clocked, &self.linkers, hash, code).map(Arc::new)
    }

    /// Returns the module's code. Refuses a module that cannot run before it is compiled.
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
            // The compiler found an error in a function; a full inspection describes it better.
            Err(error) if error.code() == Code::ModuleInvalid => {
                looked_at(&bytes, |bytes| inspect::inspect(bytes).map(drop)).await?;
                Err(error)
            }
            compiled => compiled,
        }
    }

    /// Returns the module, if it is loaded.
    fn loaded(&self, hash: Hash) -> Option<Arc<Module>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.clock += 1;
        let now = loaded.clock;
        let slot = loaded.modules.get_mut(&hash)?;
        slot.used = now;
        slot.place.module.get().cloned()
    }

    /// Returns the module's slot, and adds one if needed; the least recently used one is removed to make room.
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
