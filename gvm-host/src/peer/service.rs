//! The trait through which a session reaches the node that runs its calls.
//!
//! In: the calls of one peer, with its rights. Out: their outcomes, as futures that may run on any thread;
//! dropping a future stops its work. Must not know: how calls run, the engine.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use crate::base::device::DeviceId;
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

    /// Returns the module and the signature of a target, in the time since `began`; no signature for a main.
    fn describe(&self, target: Target, limits: Limits, began: Instant) -> Asked<(Hash, Option<FuncType>)>;

    /// Reserves the place of a live instance with this name. Dropping the last clone frees the place.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED`; `BAD_ARGUMENTS` for a name that is in use.
    fn reserve(&self, name: Name) -> Result<Arc<dyn Reserve>>;

    /// Returns the live instances and the module of each, sorted by name.
    fn instances(&self) -> Vec<(Name, String)>;

    /// Frees a live instance.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND`.
    fn drop_instance(&self, name: &Name) -> Result<()>;

    /// Checks where the module of a call comes from. A module that the peer's device has under some name becomes the stored
    /// module of that name, if this home has the same bytes under it.
    ///
    /// # Errors
    /// `NOT_PERMITTED` if this node runs only modules of its own home.
    fn place(&self, target: &mut Target) -> Result<()>;

    /// Frees every live instance, because the session has ended.
    fn clear(&self);
}

/// Puts an instance that has been made into the place that was reserved for it.
pub type Keep = Box<dyn FnOnce() -> Result<()> + Send>;

/// The place of a live instance that is being made.
pub trait Reserve: Send + Sync {
    /// Makes the instance, in the time since `began`. The instance is kept only when the caller calls the answer.
    /// Until then it is dropped with the future or the answer.
    fn make(&self, target: Target, limits: Limits, began: Instant) -> Asked<Keep>;
}

/// Creates the service of a session from the rights and the device of its peer; no device for this one.
pub type Serve = dyn Fn(Rights, Option<DeviceId>) -> Arc<dyn Service>;
