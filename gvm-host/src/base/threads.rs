//! The threads that all nodes of this process share.
//!
//! In: nothing; values to drop. Out: runtimes, started on first use. Must not know: what runs on them.

use tokio::runtime::{Builder, Runtime};

use super::error::{Error, Result};
use super::once::Once;

/// Returns the thread that transfers large values between nodes. All nodes of this process share it.
///
/// # Errors
/// `INTERNAL` if the system cannot start a thread.
pub fn bulk() -> Result<&'static Runtime> {
    static BULK: Once<Runtime> = Once::new();
    let threads = || {
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(1).thread_name("gvm-bulk").enable_all();
        threads
    };
    once(&BULK, threads, "cannot start the thread for large values")
}

/// Drops a value that may be large on the thread for large values, because to free much memory takes milliseconds.
pub fn drop_aside(value: impl Send + 'static) {
    match bulk() {
        Ok(thread) => drop(thread.spawn(async move { drop(value) })),
        Err(_) => drop(value),
    }
}

/// Returns the threads that serve the calls of other nodes, and the calls of asynchronous callers on other nodes. All
/// nodes of this process share them. There is one for each two processors, because the guests run on the others.
///
/// # Errors
/// `INTERNAL` if the system cannot start threads.
pub fn rpc() -> Result<&'static Runtime> {
    static RPC: Once<Runtime> = Once::new();
    let threads = || {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut threads = Builder::new_multi_thread();
        // A connection that always has bytes to move must not keep the thread from noticing others.
        threads.event_interval(3);
        threads.worker_threads((processors / 2).max(1)).thread_name("gvm-rpc").enable_all();
        threads
    };
    once(&RPC, threads, "cannot start the threads for calls")
}

/// Returns the threads that run wasm. All nodes of this process share them.
///
/// # Errors
/// `INTERNAL` if the system cannot start threads.
pub fn workers() -> Result<&'static Runtime> {
    static WORKERS: Once<Runtime> = Once::new();
    let threads = || {
        let mut threads = Builder::new_multi_thread();
        threads.thread_name("gvm-worker").enable_all();
        threads
    };
    once(&WORKERS, threads, "cannot start the worker threads")
}

fn once(
    place: &'static Once<Runtime>,
    threads: impl FnOnce() -> Builder,
    what: &str,
) -> Result<&'static Runtime> {
    place.get_or_make(|| threads().build().map_err(|error| Error::io(what, error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_race_for_the_first_use_all_get_it() {
        let workers = workers().unwrap();
        workers.block_on(async {
            let racing = (0..16).map(|_| tokio::spawn(async { rpc().is_ok() && bulk().is_ok() }));
            for raced in racing.collect::<Vec<_>>() {
                assert!(raced.await.unwrap());
            }
        });
    }
}
