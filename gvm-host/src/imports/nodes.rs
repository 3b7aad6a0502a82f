//! The network of nodes as a guest sees it: interface `gvm:node/nodes` of `wit/node.wit`.
//!
//! In: a guest's requests. Out: those of the node that runs it, made for the guest's own call: nested below
//! it, within its time, with its output, taken back with it. Must not know: how a node does any of it
//! ([`Network`]).

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;
use wasmtime::component::{HasSelf, Linker};

use crate::base::error::{Effect as OurEffect, Error, Result};
use crate::base::id::Name;
use crate::call::streams::Output;
use crate::imports::state::State;

/// The import by which a component asks for it.
pub const INTERFACE: &str = "gvm:node/nodes";

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "module",
        // What has no error of its own to give stops the guest where it is not granted.
        imports: {
            "gvm:node/nodes@0.1.0.self": async | trappable,
            "gvm:node/nodes@0.1.0.list": async | trappable,
            default: async,
        },
    });
}

use bindings::gvm::node::nodes::{self, Effect, Error as GuestError, Host};

/// A future of whichever network.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// What a node offers to its guests.
pub trait Network: Send + Sync {
    /// The node's own name.
    ///
    /// # Errors
    /// `NODE_DOWN` where the node is ending.
    fn name(&self) -> Result<Name>;
    /// Every live node of the home, sorted by name.
    fn discover(&self) -> Asked<'_, Vec<Name>>;
    /// Connects with a node.
    fn connect(&self, name: Name) -> Asked<'_, ()>;
    /// The connected nodes, sorted by name.
    fn list(&self) -> Asked<'_, Vec<Name>>;
    /// Runs a call in its text form, on a connected node or on this one; the result is WAVE.
    fn run(&self, name: Name, call: String, within: Within) -> Asked<'_, Option<String>>;
    /// Ends the connection with a node.
    fn disconnect(&self, name: Name) -> Asked<'_, ()>;
}

/// The call that a guest's own calls are made within.
#[derive(Clone)]
pub struct Within {
    /// It, and the calls above it, outermost first.
    pub above: Vec<Uuid>,
    /// Where what is written belongs.
    pub output: Output,
    /// When it must have ended.
    pub deadline: Option<Instant>,
}

impl Within {
    /// The time that is left.
    pub fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// What a guest holds of the network: nothing, unless its node grants it.
#[derive(Clone)]
pub struct NetworkAccess {
    pub network: Arc<dyn Network>,
    pub within: Within,
}

/// Why a guest was stopped that asked for what it may not have. It travels inside a [`wasmtime::Error`].
#[derive(Debug)]
pub struct Denied(pub Error);

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Denied {}

/// Makes the interface known to components.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    nodes::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

fn told(error: &Error) -> GuestError {
    GuestError {
        code: error.code().as_str().to_owned(),
        message: match error.context() {
            Some(context) => format!("{}\n{context}", error.message()),
            None => error.message().to_owned(),
        },
        outcome: match error.effect() {
            OurEffect::NotStarted => Effect::NotStarted,
            OurEffect::RanAndFailed => Effect::RanAndFailed,
            OurEffect::Unknown => Effect::Unknown,
        },
    }
}

fn names(names: Vec<Name>) -> Vec<String> {
    names.iter().map(Name::to_string).collect()
}

impl Host for State {
    async fn self_(&mut self) -> wasmtime::Result<String> {
        let name = self.reach().and_then(|reach| reach.network.name());
        Ok(name.map_err(Denied)?.to_string())
    }

    fn discover(&mut self) -> impl Future<Output = Result<Vec<String>, GuestError>> + Send {
        let reach = self.reach().cloned();
        answered(async move { reach?.network.discover().await.map(names) })
    }

    fn connect(&mut self, name: String) -> impl Future<Output = Result<(), GuestError>> + Send {
        let reach = self.reach().cloned();
        answered(async move { reach?.network.connect(name.parse()?).await })
    }

    fn list(&mut self) -> impl Future<Output = wasmtime::Result<Vec<String>>> + Send {
        let reach = self.reach().cloned();
        async move {
            let listed = async { reach?.network.list().await.map(names) };
            Ok(listed.await.map_err(Denied)?)
        }
    }

    fn run(
        &mut self,
        name: String,
        call: String,
    ) -> impl Future<Output = Result<Option<String>, GuestError>> + Send {
        let reach = self.reach().cloned();
        answered(async move {
            let NetworkAccess { network, within } = reach?;
            network.run(name.parse()?, call, within).await
        })
    }

    fn disconnect(&mut self, name: String) -> impl Future<Output = Result<(), GuestError>> + Send {
        let reach = self.reach().cloned();
        answered(async move { reach?.network.disconnect(name.parse()?).await })
    }
}

/// What the guest is told of it.
async fn answered<T>(asked: impl Future<Output = Result<T>>) -> Result<T, GuestError> {
    asked.await.map_err(|error| told(&error))
}
