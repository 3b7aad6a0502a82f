//! The term of a session: whether it still lasts, on the side that gave it.
//!
//! In: the end of the session, and why. Out: the end of its calls, each with an error that says why; a count
//! of what runs in all sessions of a node. Must not know: the rights of a session, how its connection ends.
//!
//! `Send + Sync`: calls of one session run on several threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use crate::base::device::NodeName;
use crate::base::error::{Code, Effect, Error, Result};

/// Why a session ended; the other side is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Revoked,
    Expired,
    ShutDown,
}

impl End {
    /// Returns the reason as it appears in goodbyes and events.
    pub const fn words(self) -> &'static str {
        match self {
            End::Revoked => "revoked",
            End::Expired => "expired",
            End::ShutDown => "shut down",
        }
    }

    fn error(self, me: &NodeName) -> Error {
        match self {
            End::Revoked => Error::new(Code::NotPermitted, format!("`{me}` has revoked this session"))
                .with_help(format!("ask the person at `{me}` to connect to your node")),
            End::Expired => Error::new(Code::NotPermitted, format!("this session on `{me}` has expired"))
                .with_help(format!("run `Node.connect({me})` to get a new session")),
            End::ShutDown => Error::new(Code::NodeDown, format!("node `{me}` is shutting down")),
        }
    }
}

/// The term of one session. Clones share it.
#[derive(Clone)]
pub struct Term(Arc<Inner>);

struct Inner {
    me: NodeName,
    ended: OnceLock<End>,
    told: Notify,
    running: Running,
}

impl Term {
    /// Creates the term of a session on `me`; `running` counts its calls.
    pub fn new(me: NodeName, running: Running) -> Term {
        Term(Arc::new(Inner { me, ended: OnceLock::new(), told: Notify::new(), running }))
    }

    /// Ends the term: running calls stop, and new calls are refused. Only the first reason counts.
    pub fn end(&self, why: End) {
        if self.0.ended.set(why).is_ok() {
            self.0.told.notify_waiters();
        }
    }

    /// Begins a call; it counts as running until the guard is dropped.
    ///
    /// # Errors
    /// `NOT_PERMITTED`, `NODE_DOWN` if the session has ended or the node is shutting down.
    pub fn begin(&self) -> Result<Runs> {
        match self.0.ended.get() {
            Some(why) => Err(why.error(&self.0.me)),
            None => self.0.running.begin(&self.0.me),
        }
    }

    /// Runs work until it is done, or until the term ends; then the work is dropped.
    ///
    /// # Errors
    /// Why the term ended, with the effect `RanAndFailed`.
    pub async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let told = self.0.told.notified();
        match self.0.ended.get() {
            None => tokio::select! {
                biased;
                () = told => {}
                done = work => return Ok(done),
            },
            Some(_) => drop(work),
        }
        let why = self.0.ended.get().copied().unwrap_or(End::ShutDown);
        Err(why.error(&self.0.me).with_effect(Effect::RanAndFailed))
    }
}

/// Counts what runs for peers and on peers, in all sessions of a node. Clones share one count.
#[derive(Clone, Default)]
pub struct Running(Arc<Count>);

#[derive(Default)]
struct Count {
    count: AtomicUsize,
    closing: AtomicBool,
    idle: Notify,
}

/// One running call; it counts until this is dropped.
pub struct Runs(Running);

impl Running {
    /// Begins a call; `me` is the name of this node.
    ///
    /// # Errors
    /// `NODE_DOWN` after [`Running::close`].
    pub fn begin(&self, me: &NodeName) -> Result<Runs> {
        // Counted first, so that a call that begins during the shutdown is either refused or waited for.
        self.0.count.fetch_add(1, Ordering::SeqCst);
        let runs = Runs(self.clone());
        match self.0.closing.load(Ordering::SeqCst) {
            true => Err(End::ShutDown.error(me)),
            false => Ok(runs),
        }
    }

    /// Refuses everything that begins from now on.
    pub fn close(&self) {
        self.0.closing.store(true, Ordering::SeqCst);
    }

    /// Returns how many calls run.
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::SeqCst)
    }

    /// Waits until nothing runs.
    pub async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.count() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        if self.0.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn me() -> NodeName {
        "me".parse().unwrap()
    }

    #[test]
    fn the_end_stops_running_calls_and_refuses_new_ones() {
        run(async {
            let term = Term::new(me(), Running::default());
            assert_eq!(term.within(async { 3 }).await.unwrap(), 3);
            let ending = async { term.end(End::Revoked) };
            let (stopped, ()) = tokio::join!(term.within(std::future::pending::<()>()), ending);
            let stopped = stopped.unwrap_err();
            assert_eq!((stopped.code(), stopped.effect()), (Code::NotPermitted, Effect::RanAndFailed));
            term.end(End::ShutDown);
            let refused = term.begin().err().unwrap();
            assert_eq!((refused.code(), refused.effect()), (Code::NotPermitted, Effect::NotStarted));
            assert!(term.within(std::future::pending::<()>()).await.is_err());
        });
    }

    #[test]
    fn closing_waits_for_running_calls() {
        run(async {
            let running = Running::default();
            let term = Term::new(me(), running.clone());
            let (one, two) = (term.begin().unwrap(), running.begin(&me()).unwrap());
            running.close();
            assert_eq!(term.begin().err().unwrap().code(), Code::NodeDown);
            let mut idle = std::pin::pin!(running.idle());
            drop(one);
            assert!(futures::poll!(idle.as_mut()).is_pending());
            drop(two);
            idle.await;
        });
    }
}
