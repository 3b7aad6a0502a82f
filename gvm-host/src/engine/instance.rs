//! An instance of a module: a store of its own, with limits from the first instruction.
//!
//! In: a module, limits, grants, streams; then entries and values. Out: values, or errors that say why the guest
//! stopped. A trap leaves the store unusable, so an instance that failed is never used again. Must not know: the
//! caller, and the node it comes from.

use std::pin::pin;
use std::sync::Arc;

use wasmtime::component::TypedFunc;
use wasmtime::{Func, Store, Val};

use super::module::{Entry, Function, Linked, Main, Module};
use super::{canonical, fault, types};
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::limits::{self, Limits};
use crate::base::value::Value;
use crate::call::stdio::Stdio;
use crate::imports::keyvalue::Keyvalue;
use crate::imports::nodes::NetworkAccess;
use crate::imports::outlet::Outlet;
use crate::imports::state::State;
use crate::imports::{self, Grants};

/// How many of its functions an instance remembers.
const KNOWN: usize = 4;

/// A running copy of a module. Its calls run one after another.
pub struct Instance {
    pub(super) module: Arc<Module>,
    pub(super) store: Store<State>,
    pub(super) body: Body,
    /// Functions that were called before, with their indices in the module. The index also chooses the place.
    known: [Option<(usize, Callee)>; KNOWN],
    outlet: Outlet,
}

pub(super) enum Body {
    Core(wasmtime::Instance),
    Component(wasmtime::component::Instance),
}

/// A function of this instance.
#[derive(Clone, Copy)]
enum Callee {
    /// With the number of its results.
    Core(Func, usize),
    Component(TypedFunc<canonical::Args, canonical::Ret>),
}

/// What an instance is created with.
pub struct Setup<'a> {
    pub limits: Limits,
    pub grants: &'a Grants,
    pub stdio: Stdio,
    pub argv: &'a [&'a str],
    /// Access to the network of nodes, if it is granted.
    pub reach: Option<Box<NetworkAccess>>,
    /// The store of the module, if it is granted.
    pub keyvalue: Keyvalue,
}

impl Instance {
    /// Creates an instance, and runs the module's start code within the same limits.
    ///
    /// # Errors
    /// Those of the start code (`TRAP`, `LIMIT_EXCEEDED`…); `OVERLOADED` if the process has no room for another
    /// instance.
    pub(super) async fn create(module: Arc<Module>, setup: Setup<'_>) -> Result<Instance> {
        let clocked = module.clocked;
        let most = setup.limits.memory.unwrap_or(limits::MEMORY);
        let terminals = setup.stdio.terminals();
        let outlet = Outlet::new(setup.stdio.output, setup.stdio.input);
        let wasi = imports::wasi(setup.grants, terminals, &outlet, setup.argv)?;
        let state = State::new(wasi, setup.reach, setup.grants, setup.keyvalue, most);
        let mut store = Store::new(&clocked.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_hostcall_fuel(limits::HOSTCALL_FUEL);
        store.set_max_component_handles(limits::HANDLES);
        if let Some(fuel) = setup.limits.fuel {
            store.set_fuel(fuel).map_err(|error| Error::internal(format!("{error:#}")))?;
        }
        let _ticking = clocked.tick();
        match instantiate(&module, &mut store).await {
            Ok(body) => Ok(Instance { module, store, body, known: [None; KNOWN], outlet }),
            Err(stop) => Err(stop.explain(&mut store, &setup.limits)),
        }
    }

    /// Prepares the next call: its streams, its fuel, and its access to the network of nodes. Takes the pipes out of
    /// `stdio`, and leaves those of the call before.
    ///
    /// # Errors
    /// `INTERNAL` if the limits include fuel and the engine does not count it.
    pub fn turn(
        &mut self,
        stdio: &mut Stdio,
        limits: &Limits,
        reach: Option<Box<NetworkAccess>>,
    ) -> Result<()> {
        self.store.data_mut().turn(reach);
        self.outlet.turn(&mut stdio.output, &mut stdio.input);
        match limits.fuel {
            Some(fuel) => self.store.set_fuel(fuel).map_err(|error| Error::internal(format!("{error:#}"))),
            None => Ok(()),
        }
    }

    /// Runs an entry to its end, and takes the arguments out of `args`. The caller must not use the instance again after
    /// an error, or after it dropped a call.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` before it starts; `TRAP`, `GUEST_EXIT` and `LIMIT_EXCEEDED` after.
    pub async fn call(
        &mut self,
        entry: Entry,
        args: &mut Vec<Value>,
        limits: &Limits,
    ) -> Result<Option<Value>> {
        let _ticking = self.module.clocked.tick();
        let ran = match entry {
            Entry::Main => pin!(self.run_main()).await,
            // Pinned where it is made, here and elsewhere on the path of a call: it has 4 KiB, and `await` would move it.
            Entry::Function(place) => pin!(self.run_function(place, args)).await,
        };
        match ran {
            Ok(value) => Ok(value),
            Err(Stop::Ours(error)) => Err(error),
            Err(stop) => {
                let error = stop.explain(&mut self.store, limits);
                match (entry, error.exit()) {
                    // The guest has not started, and its state has not changed.
                    _ if matches!(error.code(), Code::BadArguments | Code::Overloaded) => Err(error),
                    (Entry::Main, Some(0)) => Ok(None),
                    // There is no result, even with status 0.
                    (Entry::Function(_), Some(status)) => Err(Error::new(
                        Code::GuestExit,
                        format!("the guest exited with status {status} before the function returned"),
                    )
                    .with_exit(status)
                    .with_effect(Effect::RanAndFailed)),
                    _ => Err(error.with_effect(Effect::RanAndFailed)),
                }
            }
        }
    }

    async fn run_main(&mut self) -> Result<Option<Value>, Stop> {
        let Instance { module, store, body, .. } = self;
        match (body, module.main()) {
            (Body::Core(instance), _) => {
                let start = instance.get_typed_func::<(), ()>(&mut *store, "_start").map_err(|error| {
                    let message = "`_start` is not a main function: it has parameters or results";
                    Stop::Ours(Error::new(Code::ModuleInvalid, message).with_source(error))
                })?;
                start.call_async(&mut *store, ()).await?;
                Ok(None)
            }
            (Body::Component(instance), Some(Main::Run(index))) => {
                let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, index)?;
                match run.call_async(&mut *store, ()).await?.0 {
                    Ok(()) => Ok(None),
                    Err(()) => Err(Stop::Guest(wasmtime_wasi::I32Exit(1).into())),
                }
            }
            (Body::Component(_), _) => Err(gone()),
        }
    }

    async fn run_function(&mut self, place: usize, args: &mut Vec<Value>) -> Result<Option<Value>, Stop> {
        let callee = match self.known[place % KNOWN] {
            Some((known, callee)) if known == place => callee,
            _ => {
                let function = self.module.functions().get(place).ok_or_else(gone)?;
                let callee = self.body.find(&mut self.store, function).ok_or_else(gone)?;
                self.known[place % KNOWN] = Some((place, callee));
                callee
            }
        };
        match callee {
            Callee::Core(callee, results) => {
                let params = types::to_core(args).map_err(Stop::Ours)?;
                let mut results = vec![Val::I32(0); results];
                callee.call_async(&mut self.store, &params, &mut results).await?;
                types::from_core(&results).map_err(Stop::Ours)
            }
            Callee::Component(callee) => {
                let args = canonical::Args(std::mem::take(args));
                Ok(pin!(callee.call_async(&mut self.store, args)).await?.0)
            }
        }
    }
}

impl Body {
    fn find(&self, store: &mut Store<State>, function: &Function) -> Option<Callee> {
        match self {
            Body::Core(instance) => {
                let callee = instance.get_func(&mut *store, &function.name)?;
                let results = callee.ty(&*store).results().len();
                Some(Callee::Core(callee, results))
            }
            Body::Component(instance) => {
                let callee = instance.get_func(&mut *store, function.index.as_ref()?)?;
                Some(Callee::Component(canonical::typed(callee)))
            }
        }
    }
}

pub(super) fn gone() -> Stop {
    Stop::Ours(Error::internal("the module no longer has the function that was found"))
}

/// Why a guest stopped early.
pub(super) enum Stop {
    Guest(wasmtime::Error),
    Ours(Error),
}

impl From<wasmtime::Error> for Stop {
    fn from(error: wasmtime::Error) -> Stop {
        Stop::Guest(error)
    }
}

impl Stop {
    pub(super) fn explain(self, store: &mut Store<State>, limits: &Limits) -> Error {
        match self {
            Stop::Guest(error) => fault::explain(error, store, limits),
            Stop::Ours(error) => error,
        }
    }
}

async fn instantiate(module: &Module, store: &mut Store<State>) -> Result<Body, Stop> {
    match &module.linked {
        Linked::Component(linked) => Ok(Body::Component(pin!(linked.instantiate_async(&mut *store)).await?)),
        Linked::Core(linked) => {
            let instance = linked.instantiate_async(&mut *store).await?;
            // A reactor initializes itself here. A command has `_start` instead, which is its main.
            if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut *store, "_initialize") {
                initialize.call_async(&mut *store, ()).await?;
            }
            Ok(Body::Core(instance))
        }
    }
}
