//! What a session needs of the node that runs its calls.
//!
//! In: calls of one peer, by its rights. Out: their outcomes, as futures that may run on any thread; dropping
//! one stops what it does. Must not know: how calls run, what a module is.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use crate::base::error::Result;
use crate::base::id::{Hash, Name};
use crate::base::limits::Limits;
use crate::base::value::FuncType;
use crate::call::rights::Rights;
use crate::call::stdio::Stdio;
use crate::call::{Call, Outcome, Target};

/// A call under way. Dropping it stops the guest.
pub type Run = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// An answer under way. Dropping it stops the work.
pub type Asked<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// A call that is ready to be polled.
pub struct Started {
    pub run: Run,
    /// Whether it takes less time than a hop to another thread.
    pub is_fast: bool,
}

/// One peer's calls as this node runs them: its rights and its live instances belong to it. Shared by the
/// session and what ends it; `Send + Sync`.
pub trait Service: Send + Sync {
    /// The node's own limits, which a call's narrow.
    fn limits(&self) -> Limits;

    /// What the peer may call.
    fn rights(&self) -> &Rights;

    /// Makes a call ready to run. It begins with the first poll.
    fn run(&self, call: Call, stdio: Stdio) -> Started;

    /// The module and the signature that a target means, in the time since `began`; no signature for a main.
    fn describe(&self, target: Target, limits: Limits, began: Instant) -> Asked<(Hash, Option<FuncType>)>;

    /// Reserves the place of a live instance of this name. Dropping the last clone gives the place up.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED`; `BAD_ARGUMENTS` for a name that is in use.
    fn reserve(&self, name: Name) -> Result<Arc<dyn Reserve>>;

    /// The live instances and what each was made from, sorted by name.
    fn instances(&self) -> Vec<(Name, String)>;

    /// Frees a live instance.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND`.
    fn drop_instance(&self, name: &Name) -> Result<()>;

    /// Frees every live instance: the session has ended.
    fn clear(&self);
}

/// Puts an instance that has been made into the place that was reserved for it.
pub type Keep = Box<dyn FnOnce() -> Result<()> + Send>;

/// The place of a live instance that is being made.
pub trait Reserve: Send + Sync {
    /// Makes the instance, in the time since `began`. It is kept only when the answer is called; until then it
    /// ends with the future, or with the answer.
    fn make(&self, target: Target, limits: Limits, began: Instant) -> Asked<Keep>;
}

/// Gives each session its service, by what its peer may call.
pub type Serve = dyn Fn(Rights) -> Arc<dyn Service>;
