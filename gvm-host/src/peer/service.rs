//! The trait through which a session reaches the node that runs its calls.
//!
//! In: the calls of one peer, with its rights. Out: their outcomes, as futures that may run on any thread;
//! dropping a future stops its work. Must not know: how calls run, the engine.

use std::pin::Pin;
use std::sync::Arc;

use crate::base::error::Result;
use crate::base::id::{Hash, Name};
use crate::base::limits::Limits;
use crate::base::value::FuncType;
use crate::call::rights::Rights;
use crate::call::stdio::Stdio;
use crate::call::{Call, Outcome, Target};

/// A running call. Dropping it stops the guest.
pub type Run = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A pending answer. Dropping it stops the work.
pub type Asked<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// A call that is ready to be polled.
pub struct Started {
    pub run: Run,
    /// Whether it takes less time than a hop to another thread.
    pub is_fast: bool,
}

/// Runs the calls of one peer; has the peer's rights and live instances. Shared by the session and the code
/// that ends it; `Send + Sync`.
pub trait Service: Send + Sync {
    /// Returns the node's own limits. The limits of a call can only narrow them.
    fn limits(&self) -> Limits;

    /// Returns what the peer may call.
    fn rights(&self) -> &Rights;

    /// Prepares a call. It begins with the first poll.
    fn run(&self, call: Call, stdio: Stdio) -> Started;

    /// Returns the module and the signature of a target; no signature for a main.
    fn describe(&self, target: Target) -> Asked<(Hash, Option<FuncType>)>;

    /// Creates a live instance.
    fn spawn(&self, name: Name, target: Target, limits: Limits) -> Asked<()>;

    /// Returns the live instances and the module of each, sorted by name.
    fn instances(&self) -> Vec<(Name, String)>;

    /// Frees a live instance.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND`.
    fn drop_instance(&self, name: &Name) -> Result<()>;

    /// Frees every live instance, because the session has ended.
    fn clear(&self);
}

/// Creates the service of a session from the rights of its peer.
pub type Serve = dyn Fn(Rights) -> Arc<dyn Service>;
