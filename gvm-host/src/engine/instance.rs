//! An instance of a module: a store of its own, with limits from the first instruction.
//!
//! In: a module, limits, grants, streams; then entries and values. Out: values, or errors that say why the guest
//! stopped. A trap leaves the store unusable, so an instance that failed is never used again. Must not know: the
//! caller, and the node it comes from.

use std::sync::Arc;

use wasmtime::{Store, Val};

use super::config::{Clocked, Ticking};
use super::module::{Entry, Linked, Main, Module};
use super::{canonical, fault, types};
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::limits::{self, Limits};
use crate::base::value::Value;
use crate::call::stdio::Stdio;
use crate::imports::nodes::NetworkAccess;
use crate::imports::outlet::Outlet;
use crate::imports::state::State;
use crate::imports::{self, Grants};

/// A running copy of a module. Its calls run one after another.
pub struct Instance {
    module: Arc<Module>,
    store: Store<State>,
    body: Body,
    outlet: Outlet,
    _ticking: Ticking,
}

enum Body {
    Core(wasmtime::Instance),
    Component(wasmtime::component::Instance),
}

/// What an instance is created with.
pub struct Setup<'a> {
    pub limits: Limits,
    pub grants: &'a Grants,
    pub stdio: &'a Stdio,
    pub argv: &'a [String],
    /// Access to the network of nodes, if it is granted.
    pub reach: Option<NetworkAccess>,
}

impl Instance {
    /// Creates an instance, and runs the module's start code within the same limits.
    ///
    /// # Errors
    /// Those of the start code (`TRAP`, `LIMIT_EXCEEDED`…); `OVERLOADED` if the process has no room for another
    /// instance.
    pub(super) async fn create(clocked: &Clocked, module: Arc<Module>, setup: Setup<'_>) -> Result<Instance> {
        let most = setup.limits.memory.unwrap_or(limits::MEMORY);
        let outlet = Outlet::new(setup.stdio.output.clone(), setup.stdio.input.clone());
        let wasi = imports::wasi(setup.grants, setup.stdio, &outlet, setup.argv)?;
        let state = State::new(wasi, setup.reach, setup.grants.net.clone(), most);
        let mut store = Store::new(&clocked.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_hostcall_fuel(limits::HOSTCALL_FUEL);
        store.set_max_component_handles(limits::HANDLES);
        if let Some(fuel) = setup.limits.fuel {
            store.set_fuel(fuel).map_err(|error| Error::internal(format!("{error:#}")))?;
        }
        let ticking = clocked.tick();
        match instantiate(&module, &mut store).await {
            Ok(body) => Ok(Instance { module, store, body, outlet, _ticking: ticking }),
            Err(stop) => Err(stop.explain(&mut store, &setup.limits)),
        }
    }

    /// Prepares the next call: its streams, its fuel, and its access to the network of nodes.
    ///
    /// # Errors
    /// `INTERNAL` if the limits include fuel and the engine does not count it.
    pub fn turn(&mut self, stdio: &Stdio, limits: &Limits, reach: Option<NetworkAccess>) -> Result<()> {
        self.store.data_mut().turn(reach);
        self.outlet.turn(stdio.output.clone(), stdio.input.clone());
        match limits.fuel {
            Some(fuel) => self.store.set_fuel(fuel).map_err(|error| Error::internal(format!("{error:#}"))),
            None => Ok(()),
        }
    }

    /// Runs an entry to its end. The caller must not use the instance again after an error, or after it dropped a
    /// call.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` before it starts; `TRAP`, `GUEST_EXIT` and `LIMIT_EXCEEDED` after.
    pub async fn call(&mut self, entry: Entry, args: Vec<Value>, limits: &Limits) -> Result<Option<Value>> {
        match enter(&self.module, &self.body, &mut self.store, entry, args).await {
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
    fn explain(self, store: &mut Store<State>, limits: &Limits) -> Error {
        match self {
            Stop::Guest(error) => fault::explain(error, store, limits),
            Stop::Ours(error) => error,
        }
    }
}

async fn instantiate(module: &Module, store: &mut Store<State>) -> Result<Body, Stop> {
    match &module.linked {
        Linked::Component(linked) => Ok(Body::Component(linked.instantiate_async(&mut *store).await?)),
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

async fn enter(
    module: &Module,
    body: &Body,
    store: &mut Store<State>,
    entry: Entry,
    args: Vec<Value>,
) -> Result<Option<Value>, Stop> {
    let gone = || Stop::Ours(Error::internal("the module no longer has the function that was found"));
    match (body, entry, module.main()) {
        (Body::Core(instance), Entry::Main, _) => {
            let start = instance.get_typed_func::<(), ()>(&mut *store, "_start").map_err(|error| {
                Stop::Ours(
                    Error::new(
                        Code::ModuleInvalid,
                        "`_start` is not a main function: it has parameters or results",
                    )
                    .with_source(error),
                )
            })?;
            start.call_async(&mut *store, ()).await?;
            Ok(None)
        }
        (Body::Component(instance), Entry::Main, Some(Main::Run(index))) => {
            let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, index)?;
            match run.call_async(&mut *store, ()).await?.0 {
                Ok(()) => Ok(None),
                Err(()) => Err(Stop::Guest(wasmtime_wasi::I32Exit(1).into())),
            }
        }
        (Body::Core(instance), Entry::Function(_), _) => {
            let function = module.function(entry).ok_or_else(gone)?;
            let callee = instance.get_func(&mut *store, &function.name).ok_or_else(gone)?;
            let params = types::to_core(&args).map_err(Stop::Ours)?;
            let mut results = vec![Val::I32(0); callee.ty(&*store).results().len()];
            callee.call_async(&mut *store, &params, &mut results).await?;
            types::from_core(&results).map_err(Stop::Ours)
        }
        (Body::Component(instance), Entry::Function(_), _) => {
            let index =
                module.function(entry).and_then(|function| function.index.as_ref()).ok_or_else(gone)?;
            let callee = instance.get_func(&mut *store, index).ok_or_else(gone)?;
            Ok(canonical::typed(callee).call_async(&mut *store, canonical::Args(args)).await?.0)
        }
        (Body::Component(_), Entry::Main, _) => Err(gone()),
    }
}
