//! The threads of this process that all its nodes share.
//!
//! In: nothing. Out: runtimes, started when they are first asked for. Must not know: what runs on them.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

use super::error::{Error, Result};

/// The thread of this process that carries large values between nodes, shared by all its nodes.
///
/// # Errors
/// `INTERNAL` where the system gives no thread.
pub fn bulk() -> Result<&'static Runtime> {
    static BULK: OnceLock<Runtime> = OnceLock::new();
    let threads = || {
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(1).thread_name("gvm-bulk").enable_all();
        threads
    };
    once(&BULK, threads, "starting the thread of large values")
}

/// The threads of this process that run wasm, shared by all its nodes.
///
/// # Errors
/// `INTERNAL` where the system gives no threads.
pub fn workers() -> Result<&'static Runtime> {
    static WORKERS: OnceLock<Runtime> = OnceLock::new();
    let threads = || {
        let mut threads = Builder::new_multi_thread();
        threads.thread_name("gvm-worker").enable_all();
        threads
    };
    once(&WORKERS, threads, "starting the worker threads")
}

fn once(
    place: &'static OnceLock<Runtime>,
    threads: impl FnOnce() -> Builder,
    what: &str,
) -> Result<&'static Runtime> {
    if let Some(made) = place.get() {
        return Ok(made);
    }
    let made = threads().build().map_err(|error| Error::io(what, error))?;
    Ok(place.get_or_init(|| made))
}
