//! What a fork leaves behind.
//!
//! In: word from `os.register_at_fork`. Out: a coded error for whoever uses GVM in a child that was forked
//! while it ran: its threads, sockets and locks stayed with the parent. Must not know: what is asked.

use std::sync::atomic::{AtomicBool, Ordering};

use gvm_host::{Code, Error, Result};

static STARTED: AtomicBool = AtomicBool::new(false);
static FORKED: AtomicBool = AtomicBool::new(false);

/// Notes that this process has threads of GVM from now on.
///
/// # Errors
/// As of [`check`].
pub fn start() -> Result<()> {
    check()?;
    STARTED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Refuses to go on in the child of a fork.
///
/// # Errors
/// `NOT_PERMITTED`.
pub fn check() -> Result<()> {
    if !forked() {
        return Ok(());
    }
    Err(Error::new(
        Code::NotPermitted,
        "this process was forked from one that runs GVM, whose threads and connections stayed there: start \
         it anew instead, as multiprocessing.get_context(\"spawn\") does",
    ))
}

/// Whether this is the child of a fork.
pub fn forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// To be called in the child of every fork.
pub fn in_child() {
    FORKED.store(STARTED.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// What waits for its threads when it goes: in the child of a fork it is left as it is.
pub struct Owned<T>(Option<T>);

impl<T> Owned<T> {
    pub fn new(value: T) -> Owned<T> {
        Owned(Some(value))
    }

    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    pub fn take(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if forked() {
            std::mem::forget(self.0.take());
        }
    }
}
