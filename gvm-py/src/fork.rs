//! Detects forks of this process.
//!
//! In: the call from `os.register_at_fork`. Out: an error for every use of GVM in a child that was forked
//! after GVM started, because its threads, sockets and locks stay in the parent. Must not know: what is
//! requested; Python.

use std::sync::atomic::{AtomicBool, Ordering};

use gvm_host::{Code, Error, Result};

static STARTED: AtomicBool = AtomicBool::new(false);
static FORKED: AtomicBool = AtomicBool::new(false);

/// Records that this process has threads of GVM from now on.
///
/// # Errors
/// See [`check`].
pub fn start() -> Result<()> {
    check()?;
    STARTED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Checks that this is not the child of a fork.
///
/// # Errors
/// `NOT_PERMITTED`.
pub fn check() -> Result<()> {
    if !forked() {
        return Ok(());
    }
    let message =
        "this process was forked from a process that uses GVM, and has none of its threads and connections";
    let help = "start the process with `multiprocessing.get_context(\"spawn\")`, or use `subprocess`";
    Err(Error::new(Code::NotPermitted, message).with_help(help))
}

/// Returns whether this is the child of a fork.
pub fn forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Records the fork. Called in the child of every fork.
pub fn in_child() {
    FORKED.store(STARTED.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// Holds a value whose drop waits for threads. In the child of a fork, where those threads are missing, the
/// value is leaked instead.
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
