//! How long a session lasts, from the side that gave it.
//!
//! In: that it ends, and why. Out: the end of the calls that run in it, each told why; a count of what runs
//! over all sessions of a node. Must not know: what a session may do, how its connection ends.
//!
//! Belongs to the node's thread.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::base::error::{Code, Effect, Error, Result};
use crate::base::id::Name;

/// Why a session ended, as the other side is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Revoked,
    Expired,
    ShutDown,
}

impl End {
    /// The reason as goodbyes and events have it.
    pub const fn words(self) -> &'static str {
        match self {
            End::Revoked => "revoked",
            End::Expired => "expired",
            End::ShutDown => "shut down",
        }
    }

    fn error(self, me: &Name) -> Error {
        match self {
            End::Revoked => Error::new(Code::NotPermitted, format!("`{me}` has revoked this session")),
            End::Expired => Error::new(
                Code::NotPermitted,
                format!("this session of `{me}` has expired: Node.connect({me}) asks for another"),
            ),
            End::ShutDown => Error::new(Code::NodeDown, format!("node `{me}` is being shut down")),
        }
    }
}

/// One session's term. Clones share it.
#[derive(Clone)]
pub struct Term(Rc<Inner>);

struct Inner {
    me: Name,
    ended: Cell<Option<End>>,
    told: Notify,
    running: Running,
}

impl Term {
    /// A term that has begun, of a session of `me`, whose calls count in `running`.
    pub fn new(me: Name, running: Running) -> Term {
        Term(Rc::new(Inner { me, ended: Cell::default(), told: Notify::new(), running }))
    }

    /// Ends it: calls in it stop, later ones do not begin. The first reason stands.
    pub fn end(&self, why: End) {
        if self.0.ended.get().is_none() {
            self.0.ended.set(Some(why));
            self.0.told.notify_waiters();
        }
    }

    /// Lets a call begin, which runs as long as the guard lives.
    ///
    /// # Errors
    /// `NOT_PERMITTED`, `NODE_DOWN` where the session has ended or its node is about to.
    pub fn begin(&self) -> Result<Runs> {
        match self.0.ended.get() {
            Some(why) => Err(why.error(&self.0.me)),
            None => self.0.running.begin(&self.0.me),
        }
    }

    /// Does work until it is done, or the term ends: then the work is dropped.
    ///
    /// # Errors
    /// Why the term ended, of a call that may have run.
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
        let why = self.0.ended.get().unwrap_or(End::ShutDown);
        Err(why.error(&self.0.me).with_effect(Effect::RanAndFailed))
    }
}

/// What runs for peers, and on them, over all sessions of a node. Clones count together.
#[derive(Clone, Default)]
pub struct Running(Rc<Count>);

#[derive(Default)]
struct Count {
    count: Cell<usize>,
    closing: Cell<bool>,
    idle: Notify,
}

/// Something that runs.
pub struct Runs(Running);

impl Running {
    /// Lets something begin on the node of this name.
    ///
    /// # Errors
    /// `NODE_DOWN` once the node lets nothing begin any more.
    pub fn begin(&self, me: &Name) -> Result<Runs> {
        if self.0.closing.get() {
            return Err(End::ShutDown.error(me));
        }
        self.0.count.set(self.0.count.get() + 1);
        Ok(Runs(self.clone()))
    }

    /// From now on nothing begins.
    pub fn close(&self) {
        self.0.closing.set(true);
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.0.count.get()
    }

    /// Waits until nothing runs.
    pub async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.0.count.get() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let count = &self.0.0;
        count.count.set(count.count.get() - 1);
        if count.count.get() == 0 {
            count.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn me() -> Name {
        "me".parse().unwrap()
    }

    #[test]
    fn the_end_reaches_what_runs_and_what_would_begin() {
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
    fn closing_waits_for_what_runs() {
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
