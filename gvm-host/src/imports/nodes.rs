//! The network of nodes for guests: the interface `gvm:node/nodes` of `wit/node.wit`.
//!
//! In: a guest's requests. Out: requests of the node that runs the guest. They are nested in the guest's own call:
//! they share its deadline and its output, and are cancelled with it. Must not know: how a node performs them
//! ([`Network`]).

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;
use wasmtime::component::{HasSelf, Linker};

use crate::base::device::NodeName;
use crate::base::error::{Effect as OurEffect, Error, Result};
use crate::call::streams::Output;
use crate::imports::state::State;

/// The import with which a component uses the network of nodes.
pub const INTERFACE: &str = "gvm:node/nodes";

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "module",
        // These functions have no error type. If the network is not granted, they stop the guest.
        imports: {
            "gvm:node/nodes@0.1.0.self": async | trappable,
            "gvm:node/nodes@0.1.0.list": async | trappable,
            default: async,
        },
    });
}

use bindings::gvm::node::nodes::{self, Effect, Error as GuestError, Host};

/// The future of a request to a [`Network`].
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// What a node offers to its guests.
pub trait Network: Send + Sync {
    /// Returns the node's own name.
    ///
    /// # Errors
    /// `NODE_DOWN` if the node is shutting down.
    fn name(&self) -> Result<NodeName>;
    /// Returns every running node of the home, sorted by name.
    fn discover(&self) -> Asked<'_, Vec<NodeName>>;
    /// Connects to a node.
    fn connect(&self, name: NodeName) -> Asked<'_, ()>;
    /// Returns the connected nodes, sorted by name.
    fn list(&self) -> Asked<'_, Vec<NodeName>>;
    /// Runs a call in text form, on a connected node or on this one; the result is WAVE.
    fn run(&self, name: NodeName, call: String, within: Within) -> Asked<'_, Option<String>>;
    /// Ends the connection to a node.
    fn disconnect(&self, name: NodeName) -> Asked<'_, ()>;
}

/// The call that contains the calls of a guest.
#[derive(Clone)]
pub struct Within {
    /// The ids of this call and of the calls above it, outermost first.
    pub above: Vec<Uuid>,
    /// The output of the call.
    pub output: Output,
    /// When the call must have ended.
    pub deadline: Option<Instant>,
}

impl Within {
    /// Returns the remaining time.
    pub fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// A guest's access to the network. A guest has it only if its node grants it.
#[derive(Clone)]
pub struct NetworkAccess {
    pub network: Arc<dyn Network>,
    pub within: Within,
}

/// Why a host function stopped a guest: the request is not permitted. It travels inside a [`wasmtime::Error`].
#[derive(Debug)]
pub struct Denied(pub Error);

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Denied {}

/// Defines the interface for components.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    nodes::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

fn told(error: &Error) -> GuestError {
    let mut message = error.message().to_owned();
    if let Some(context) = error.context() {
        message.push('\n');
        message.push_str(context);
    }
    if let Some(help) = error.help() {
        message.push_str("\nhelp: ");
        message.push_str(help);
    }
    GuestError {
        code: error.code().as_str().to_owned(),
        message,
        outcome: match error.effect() {
            OurEffect::NotStarted => Effect::NotStarted,
            OurEffect::RanAndFailed => Effect::RanAndFailed,
            OurEffect::Unknown => Effect::Unknown,
        },
    }
}

fn names(names: Vec<NodeName>) -> Vec<String> {
    names.iter().map(NodeName::to_string).collect()
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
        let (reach, tasks) = (self.reach().cloned(), self.runs_tasks());
        answered(async move {
            let NetworkAccess { network, within } = reach?;
            let name = name.parse()?;
            if !tasks {
                return network.run(name, call, within).await;
            }
            // wasmtime panics if the called guest runs within the loop of this one. The call ends with its caller.
            let running = tokio::spawn(async move { network.run(name, call, within).await });
            let ran = AbortOnDropHandle::new(running).await;
            ran.unwrap_or_else(|error| Err(Error::internal(format!("the call of a guest failed: {error}"))))
        })
    }

    fn disconnect(&mut self, name: String) -> impl Future<Output = Result<(), GuestError>> + Send {
        let reach = self.reach().cloned();
        answered(async move { reach?.network.disconnect(name.parse()?).await })
    }
}

/// Converts the error for the guest.
async fn answered<T>(asked: impl Future<Output = Result<T>>) -> Result<T, GuestError> {
    asked.await.map_err(|error| told(&error))
}
