//! Runs a future on the thread that waits for it.
//!
//! In: a future. Out: its result. The thread has a runtime of its own, so that the calls that it makes on other nodes
//! cross no other thread of this process. Must not know: what the future does.

use std::future::poll_fn;
use std::pin::pin;

use tokio::runtime::{Builder, Runtime};

use crate::base::error::{Error, Result};
use crate::base::threads::workers;

thread_local! {
    static RUNTIME: std::cell::OnceCell<Runtime> = const { std::cell::OnceCell::new() };
}

/// Runs a future to its end on this thread, which waits for it. Calls on other nodes are fastest this way: this thread
/// sends them and receives their outcomes itself. A future that needs no I/O is only polled.
///
/// # Errors
/// `INTERNAL` if the system cannot start the threads of the process or the runtime of this thread.
///
/// # Panics
/// As [`Runtime::block_on`], if it is called from an asynchronous task.
pub fn wait<T>(future: impl Future<Output = T>) -> Result<T> {
    let workers = workers()?.handle();
    RUNTIME.with(|runtime| {
        if runtime.get().is_none() {
            let made = Builder::new_current_thread().enable_all().build();
            let made =
                made.map_err(|error| Error::io("cannot start the runtime of a thread that waits", error))?;
            let _ = runtime.set(made);
        }
        let Some(runtime) = runtime.get() else { return Err(Error::internal("this thread has no runtime")) };
        let mut future = pin!(future);
        Ok(runtime.block_on(poll_fn(|cx| {
            // Timers and tasks of the future use the runtime that is current when they are first polled.
            let _entered = workers.enter();
            future.as_mut().poll(cx)
        })))
    })
}
