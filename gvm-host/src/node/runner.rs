//! Runs a call: finds the module and the function, converts the arguments, applies the limits.
//!
//! In: a call and its streams. Out: its outcome. Must not know: sockets, sessions, the terminal. All callers
//! of a node (REPL, scripts, Python, guests, peers) use it; they differ only in their rights and instances.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::base::device::DeviceId;
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::id::{Hash, Name};
use crate::base::limits::{self, Limits};
use crate::base::value::{FuncType, Value};
use crate::base::wave;
use crate::call::deadline::in_time;
use crate::call::rights::Rights;
use crate::call::stdio::Stdio;
use crate::call::{Args, Call, ModuleRef, Outcome, Target};
use crate::engine::{Engine, Entry, Function, Module, Purpose, Setup};
use crate::imports::Grants;
use crate::imports::keyvalue::{Keyvalue, Stores};
use crate::imports::nodes::{Network, NetworkAccess, Within};
use crate::modules::is_component;
use crate::node::live::{self, Instances, Live, Made};
use crate::node::modules::Modules;
use crate::node::share::{Share, Shares};

/// Runs calls on this node. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Runner(Arc<Inner>);

struct Inner {
    engine: Engine,
    modules: Modules,
    grants: Grants,
    limits: Limits,
    /// The network that guests may use. Set when the node has registered.
    network: OnceLock<Arc<dyn Network>>,
    shares: Shares,
    /// The stores of the home, if guests may use them.
    stores: Option<Stores>,
}

/// A caller: its live instances and its rights. Cheap to clone. The default is a user of this node, who may
/// call everything.
#[derive(Clone)]
pub struct Caller {
    pub held: Instances,
    pub rights: Rights,
    /// Limits how many modules are compiled for this caller at the same time. `None` is no limit.
    pub compiling: Option<Arc<Semaphore>>,
    /// Limits how many fresh instances run for this caller at the same time. `None` is no limit.
    pub share: Option<Share>,
    /// Its device; `None` for this one.
    pub device: Option<DeviceId>,
}

impl Default for Caller {
    fn default() -> Caller {
        let (held, rights) = (Instances::of_users(), Rights::default());
        Caller { held, rights, compiling: None, share: None, device: None }
    }
}

/// A loaded module and the function to call.
pub struct Prepared {
    module: Arc<Module>,
    entry: Entry,
}

impl Prepared {
    /// Returns whether earlier calls were so fast that a switch of threads would cost more.
    pub fn is_fast(&self) -> bool {
        self.module.function(self.entry).is_some_and(|function| function.is_fast())
    }

    /// Returns the function's signature. `None` for a main.
    pub fn signature(&self) -> Option<&FuncType> {
        self.module.function(self.entry).map(|function| &function.ty)
    }

    /// Returns the module that will run.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }
}

impl Runner {
    /// Returns a runner with this engine, and the grants and limits of the node.
    pub fn new(engine: Engine, modules: Modules, grants: Grants, limits: Limits) -> Runner {
        let (network, shares) = Default::default();
        let stores = grants.keyvalue.then(|| Stores::new(modules.home().keyvalue()));
        Runner(Arc::new(Inner { engine, modules, grants, limits, network, shares, stores }))
    }

    /// Sets the network that guests with the grant may use.
    pub(super) fn join(&self, network: Arc<dyn Network>) {
        let _ = self.0.network.set(network);
    }

    /// Returns the network access of the guest of a call that began at `began`; `None` is now.
    pub(super) fn reach(
        &self,
        call: &Call,
        stdio: &Stdio,
        limits: &Limits,
        began: Option<Instant>,
    ) -> Option<Box<NetworkAccess>> {
        if !self.0.grants.nodes {
            return None;
        }
        let network = self.0.network.get()?.clone();
        let above = call.above.iter().copied().chain([call.id]).collect();
        let deadline = limits.timeout.and_then(|most| began.unwrap_or_else(Instant::now).checked_add(most));
        let within = Within { above, output: stdio.output.clone(), deadline };
        Some(Box::new(NetworkAccess { network, within }))
    }

    /// Returns what a guest may keep. A store belongs to the name of a module, so only what this home has under the name may use it:
    /// not a file, and not what another device has under the same name.
    pub(super) fn keyvalue(&self, from: &ModuleRef, module: &Module) -> Keyvalue {
        let Some(stores) = &self.0.stores else { return Keyvalue::Denied };
        match from {
            ModuleRef::Stored { name, .. } | ModuleRef::Pinned { name, .. }
                if self.0.modules.version_of(name, module.hash()).is_some() =>
            {
                Keyvalue::Of(stores.clone(), name.clone())
            }
            _ => Keyvalue::Unnamed,
        }
    }

    /// Returns what the node grants its guests.
    pub(super) fn grants(&self) -> &Grants {
        &self.0.grants
    }

    /// Returns the node's limits. A call can only lower them.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// Returns the room for the guests of peers.
    pub(super) fn shares(&self) -> &Shares {
        &self.0.shares
    }

    /// Returns the home's modules.
    pub fn modules(&self) -> &Modules {
        &self.0.modules
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Finds the call's function if its module is already loaded. Does not wait and does not read files.
    pub fn prepare_now(&self, rights: &Rights, target: &Target, limits: &Limits) -> Option<Result<Prepared>> {
        let hash = match &target.module {
            ModuleRef::Stored { name, version } => self.0.modules.resolve_now(name, version.as_ref())?,
            ModuleRef::Bytes(bytes) => bytes.hash(),
            ModuleRef::Pinned { hash, .. } | ModuleRef::Loaded(hash) => *hash,
            ModuleRef::Instance(_) => return None,
        };
        let module = self.0.engine.loaded(hash, limits)?;
        Some(find(module, target, rights))
    }

    /// Finds the call's function. Loads and compiles its module first if necessary.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND`, `MODULE_CORRUPT`, `MODULE_INVALID`, `IMPORT_UNSATISFIED`,
    /// `FUNCTION_NOT_FOUND`, `FUNCTION_AMBIGUOUS`, `UNSUPPORTED_TYPE`, `NOT_PERMITTED`.
    pub async fn prepare(&self, caller: &Caller, target: &Target, limits: &Limits) -> Result<Prepared> {
        let rights = &caller.rights;
        // A caller without rights to a module must not learn whether it exists.
        rights.enter(target.module.name(), target.function.as_deref())?;
        if let Some(ready) = self.prepare_now(rights, target, limits) {
            return ready;
        }
        find(self.load(caller, target, limits).await?, target, rights)
    }

    /// Returns the target's module. Compiles it first if necessary.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND`, `MODULE_CORRUPT`, `MODULE_INVALID`, `IMPORT_UNSATISFIED`,
    /// `INSTANCE_NOT_FOUND`.
    pub async fn load(&self, caller: &Caller, target: &Target, limits: &Limits) -> Result<Arc<Module>> {
        self.load_for(Purpose::Fresh, caller, target, limits).await
    }

    async fn load_for(
        &self,
        purpose: Purpose,
        caller: &Caller,
        target: &Target,
        limits: &Limits,
    ) -> Result<Arc<Module>> {
        let (engine, turns) = (&self.0.engine, caller.compiling.as_deref());
        match &target.module {
            ModuleRef::Stored { name, version } => {
                let modules = self.0.modules.clone();
                let stored = match modules.resolve(name, version.as_ref()).await {
                    Ok(stored) => stored,
                    // The rights are about names of this home.
                    Err(error) if error.code() == Code::ModuleNotFound && caller.rights.are_all() => {
                        let found = modules.find_elsewhere(name, version.as_ref()).await;
                        let hash = found.ok().flatten().ok_or(error)?;
                        return self.load_from(hash, purpose, caller, limits).await;
                    }
                    Err(error) => return Err(error),
                };
                engine
                    .load(stored.hash, stored.component, purpose, limits, turns, async move {
                        modules.read(stored.hash).await
                    })
                    .await
            }
            ModuleRef::Pinned { hash, .. } => self.load_from(*hash, purpose, caller, limits).await,
            ModuleRef::Bytes(bytes) => {
                let (hash, component, bytes) = (bytes.hash(), is_component(bytes), bytes.shared());
                engine.load(hash, component, purpose, limits, turns, async { Ok(bytes) }).await
            }
            ModuleRef::Loaded(hash) => {
                let missing = || Error::new(Code::ModuleNotFound, format!("this node has not loaded {hash}"));
                engine.loaded(*hash, limits).ok_or_else(missing)
            }
            ModuleRef::Instance(name) => Err(live::not_found(name)),
        }
    }

    /// Returns a module of another device.
    async fn load_from(
        &self,
        hash: Hash,
        purpose: Purpose,
        caller: &Caller,
        limits: &Limits,
    ) -> Result<Arc<Module>> {
        let bytes = self.0.modules.obtain(hash, caller.device).await?;
        let (component, turns) = (is_component(&bytes), caller.compiling.as_deref());
        self.0.engine.load(hash, component, purpose, limits, turns, async { Ok(bytes) }).await
    }

    /// Runs a call to its end, on a fresh instance or on a live instance of its caller. Dropping the future
    /// stops the guest.
    pub async fn run(&self, caller: &Caller, mut call: Call, mut stdio: Stdio) -> Outcome {
        self.run_in_place(caller, &mut call, &mut stdio).await
    }

    /// Does the same with a call and streams that stay where they are, because copies of them take time. Takes what it
    /// needs out of both.
    pub(super) async fn run_in_place(&self, caller: &Caller, call: &mut Call, stdio: &mut Stdio) -> Outcome {
        if let ModuleRef::Instance(name) = &call.target.module {
            return match caller.held.get(name) {
                Ok(live) => pin!(self.run_live(caller, &live, call, stdio)).await,
                Err(error) => Outcome::failed(error),
            };
        }
        let limits = self.0.limits.narrow(call.limits);
        let began = Instant::now();
        if let Err(error) = caller.rights.enter(call.target.module.name(), call.target.function.as_deref()) {
            return Outcome::failed(error);
        }
        let (prepared, started) = match self.prepare_now(&caller.rights, &call.target, &limits) {
            Some(ready) => (ready, began),
            None => {
                let loading = async {
                    let _shown = stdio.preparing.begin(format!("Compiling {}", noun(&call.target.module)));
                    let module = self.load(caller, &call.target, &limits).await?;
                    find(module, &call.target, &caller.rights)
                };
                let loaded = in_time(limits.timeout, Some(began), Effect::NotStarted, pin!(loading)).await;
                (loaded, Instant::now())
            }
        };
        match prepared {
            Ok(prepared) => {
                let share = caller.share.as_ref();
                pin!(self.run_since(began, started, prepared, call, stdio, share)).await
            }
            Err(error) => Outcome::failed(error),
        }
    }

    /// Runs a prepared call to its end, like [`Runner::run`], when it is its turn in the share of its caller.
    pub(super) async fn run_prepared(
        &self,
        prepared: Prepared,
        mut call: Call,
        mut stdio: Stdio,
        share: Option<Share>,
    ) -> Outcome {
        let now = Instant::now();
        self.run_since(now, now, prepared, &mut call, &mut stdio, share.as_ref()).await
    }

    /// Runs a prepared call, which starts now. Its time limit counts from `began`.
    async fn run_since(
        &self,
        began: Instant,
        started: Instant,
        prepared: Prepared,
        call: &mut Call,
        stdio: &mut Stdio,
        share: Option<&Share>,
    ) -> Outcome {
        let limits = self.0.limits.narrow(call.limits);
        let _turn = match share {
            None => None,
            Some(share) => match share.turn(&call.above, &limits, began).await {
                Ok(turn) => Some(turn),
                Err(error) => return Outcome::failed(error),
            },
        };
        let Prepared { module, entry } = prepared;
        let want_type = call.want_type;
        let entered = pin!(self.enter(&module, entry, call, stdio, limits, began));
        let result = in_time(limits.timeout, Some(began), Effect::RanAndFailed, entered).await;
        let function = module.function(entry);
        let elapsed = function.is_none_or(Function::is_measured).then(|| started.elapsed());
        if let (Some(function), Some(elapsed)) = (function, elapsed) {
            function.ran(elapsed);
        }
        let ty = function.filter(|_| want_type).and_then(|function| function.ty.result.clone());
        Outcome { result, ty, elapsed }
    }

    /// Makes a live instance of a module for its caller, with this name.
    ///
    /// # Errors
    /// Those of [`Runner::make`]; `LIMIT_EXCEEDED` if the owner has too many instances.
    pub async fn spawn(&self, caller: &Caller, name: Name, target: &Target, limits: Limits) -> Result<()> {
        let place = caller.held.reserve(name)?;
        place.fill(self.make(caller, target, limits, Instant::now()).await?)
    }

    /// Makes a live instance of a module, in the time since `began`. It has no owner yet. The output of its start
    /// code is discarded. Dropping the future stops the start code.
    ///
    /// # Errors
    /// Those of preparing a call and of the start code; `TIMEOUT`.
    pub async fn make(
        &self,
        caller: &Caller,
        target: &Target,
        limits: Limits,
        began: Instant,
    ) -> Result<Made> {
        caller.rights.enter(target.module.name(), None)?;
        let limits = self.0.limits.narrow(limits);
        let loading = self.load_for(Purpose::Live, caller, target, &limits);
        let module = in_time(limits.timeout, Some(began), Effect::NotStarted, loading).await?;
        let starting = async {
            let stdio = Stdio::new(&limits);
            let output = stdio.output.clone();
            let argv = [noun(&target.module)];
            let start = Call::new(target.clone(), Args::default());
            let reach = self.reach(&start, &stdio, &limits, Some(began));
            let keyvalue = self.keyvalue(&target.module, &module);
            let setup = Setup { limits, grants: &self.0.grants, stdio, argv: &argv, reach, keyvalue };
            let mut making = pin!(self.0.engine.instantiate(module.clone(), setup));
            loop {
                tokio::select! {
                    made = &mut making => return made,
                    _ = output.next() => {}
                }
            }
        };
        let instance = in_time(limits.timeout, Some(began), Effect::RanAndFailed, pin!(starting)).await?;
        Ok(Made { from: target.module.clone(), module, instance })
    }

    async fn run_live(&self, caller: &Caller, live: &Live, call: &mut Call, stdio: &mut Stdio) -> Outcome {
        let limits = self.0.limits.narrow(call.limits);
        let (noun, of) = (noun(&call.target.module), live.of.as_ref());
        let entry = match permitted(&live.module, noun, of, &call.target, &caller.rights) {
            Ok(entry) => entry,
            Err(error) => return Outcome::failed(error),
        };
        let function = live.module.function(entry);
        let started = function.is_none_or(Function::is_measured).then(Instant::now);
        let want_type = call.want_type;
        let entered = pin!(async {
            check_depth(&call.above)?;
            let reach = self.reach(call, stdio, &limits, None);
            let mut values = match function {
                Some(function) => arguments(call.args.take(), &function.ty, &call.target)?,
                None => Vec::new(),
            };
            let mut turn = live.enter(call.id, &call.above).await?;
            let instance = turn.begin()?;
            let result = match instance.turn(stdio, &limits, reach) {
                Ok(()) => pin!(instance.call(entry, &mut values, &limits)).await,
                Err(error) => Err(error),
            };
            turn.returned(&result);
            result
        });
        let result = in_time(limits.timeout, None, Effect::RanAndFailed, entered).await;
        let ty = function.filter(|_| want_type).and_then(|function| function.ty.result.clone());
        let elapsed = started.map(|started| started.elapsed());
        if let (Some(function), Some(elapsed)) = (function, elapsed) {
            function.ran(elapsed);
        }
        Outcome { result, ty, elapsed }
    }

    /// Returns whether earlier calls of this function in a live instance were so fast that a switch of threads would cost
    /// more, and no call runs in the instance now.
    pub fn is_fast_live(&self, caller: &Caller, target: &Target) -> bool {
        let ModuleRef::Instance(name) = &target.module else { return false };
        let Ok(live) = caller.held.get(name) else { return false };
        let (interface, function) = (target.interface.as_deref(), target.function.as_deref());
        let entry = live.module.find(name.as_str(), interface, function);
        let function = entry.ok().and_then(|entry| live.module.function(entry));
        live.is_idle() && function.is_some_and(|function| function.is_fast())
    }

    /// Returns the hash of the target's module and the signature of its function, in the time since `began`. `None`
    /// for a main.
    ///
    /// # Errors
    /// Those of [`Runner::prepare`]; `INSTANCE_NOT_FOUND`, `TIMEOUT`.
    pub async fn describe(
        &self,
        caller: &Caller,
        target: &Target,
        limits: Limits,
        began: Instant,
    ) -> Result<(Hash, Option<FuncType>)> {
        let prepared = match &target.module {
            ModuleRef::Instance(name) => {
                let live = caller.held.get(name)?;
                let (noun, of) = (name.as_str(), live.of.as_ref());
                let entry = permitted(&live.module, noun, of, target, &caller.rights)?;
                Prepared { module: live.module.clone(), entry }
            }
            _ => {
                let limits = self.0.limits.narrow(limits);
                let preparing = self.prepare(caller, target, &limits);
                in_time(limits.timeout, Some(began), Effect::NotStarted, preparing).await?
            }
        };
        Ok((prepared.module().hash(), prepared.signature().cloned()))
    }

    async fn enter(
        &self,
        module: &Arc<Module>,
        entry: Entry,
        call: &mut Call,
        stdio: &mut Stdio,
        limits: Limits,
        began: Instant,
    ) -> Result<Option<Value>> {
        check_depth(&call.above)?;
        let reach = self.reach(call, stdio, &limits, Some(began));
        let noun = [noun(&call.target.module)];
        let (words, values) = match (module.function(entry), call.args.take()) {
            (None, Args::Argv(words)) => (Some(words), Vec::new()),
            (None, _) => (None, Vec::new()),
            (Some(function), args) => (None, arguments(args, &function.ty, &call.target)?),
        };
        let words: Option<Vec<&str>> = words.as_ref().map(|words| words.iter().map(String::as_str).collect());
        let argv = words.as_deref().unwrap_or(&noun);
        let keyvalue = self.keyvalue(&call.target.module, module);
        let setup = Setup { limits, grants: &self.0.grants, stdio: stdio.take(), argv, reach, keyvalue };
        self.0.engine.run(module.clone(), entry, values, setup).await
    }
}

fn check_depth(above: &[Uuid]) -> Result<()> {
    if above.len() <= limits::CALL_DEPTH {
        return Ok(());
    }
    Err(Error::new(Code::LimitExceeded, format!("calls nest more than {} deep", limits::CALL_DEPTH)))
}

/// Returns the name of a module, for the guest's first argument and for messages.
fn noun(module: &ModuleRef) -> &str {
    match module {
        ModuleRef::Stored { name, .. } | ModuleRef::Pinned { name, .. } | ModuleRef::Instance(name) => {
            name.as_str()
        }
        ModuleRef::Bytes(_) | ModuleRef::Loaded(_) => "module",
    }
}

fn find(module: Arc<Module>, target: &Target, rights: &Rights) -> Result<Prepared> {
    let entry = permitted(&module, noun(&target.module), target.module.name(), target, rights)?;
    Ok(Prepared { module, entry })
}

/// Returns the function that a target refers to, if the caller may call it. `of` is the module's stored name.
/// Only a caller with the right to a missing function learns that it is missing.
fn permitted(
    module: &Module,
    noun: &str,
    of: Option<&Name>,
    target: &Target,
    rights: &Rights,
) -> Result<Entry> {
    let (interface, function) = (target.interface.as_deref(), target.function.as_deref());
    match module.find(noun, interface, function) {
        Ok(entry) => {
            let found = module.function(entry);
            let interface = found.and_then(|found| found.interface.as_deref());
            rights.call(of, interface, found.map(|found| found.name.as_str()))?;
            Ok(entry)
        }
        Err(error) => rights.call(of, interface, function).and(Err(error)),
    }
}

/// Returns the values of the arguments, checked against the signature.
fn arguments(args: Args, ty: &FuncType, target: &Target) -> Result<Vec<Value>> {
    let function = target.function.as_deref().unwrap_or_default();
    let values = match args {
        Args::Values(values) => checked(values, ty),
        Args::Text(text) => wave::parse_args(&text, ty).map_err(|misread| misread.into_error(&text)),
        Args::Argv(_) => Err(Error::new(
            Code::BadArguments,
            format!("`{function}` is a function and takes no command-line arguments"),
        )
        .with_help(format!("write its arguments in parentheses: `{function}(…)`"))),
    };
    values.map_err(|error| error.with_context(format!("  {function}: {ty}")))
}

fn checked(values: Vec<Value>, ty: &FuncType) -> Result<Vec<Value>> {
    if values.len() != ty.params.len() {
        return Err(Error::new(
            Code::BadArguments,
            format!("wrong number of arguments: expected {}, found {}", ty.params.len(), values.len()),
        ));
    }
    for (value, param) in values.iter().zip(&*ty.params) {
        value.check(&param.ty).map_err(|error| {
            Error::new(Code::BadArguments, format!("`{}`: {}", param.name, error.message()))
        })?;
    }
    Ok(values)
}
