//! Signals: Ctrl-C stops the running call; SIGTERM and SIGHUP shut the program down.
//!
//! In: signals. Out: futures that wait for them, and the exit status. Signals that the parent process set to
//! be ignored stay ignored. Must not know: what runs.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use gvm_cli::signal::is_ignored;
use gvm_host::{Error, Result, workers};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Waits for Ctrl-C; never returns if SIGINT is ignored.
pub async fn interrupt() {
    static IGNORED: OnceLock<bool> = OnceLock::new();
    if *IGNORED.get_or_init(|| is_ignored(SignalKind::interrupt().as_raw_value()))
        || tokio::signal::ctrl_c().await.is_err()
    {
        std::future::pending().await
    }
}

/// Requests to end: SIGTERM and SIGHUP. Cheap to clone.
#[derive(Clone)]
pub struct Requests {
    /// The number of requests, and the exit status of the last one.
    came: watch::Receiver<(usize, i32)>,
    /// True after the first request.
    pub flag: Arc<AtomicBool>,
}

impl Requests {
    /// Starts to catch the signals, on the threads that all nodes share.
    ///
    /// # Errors
    /// `INTERNAL` if the system does not allow it.
    pub fn catch() -> Result<Requests> {
        Requests::catch_on(workers()?.handle())
    }

    /// Starts to catch the signals, on this runtime.
    ///
    /// # Errors
    /// `INTERNAL` if the system does not allow it.
    pub fn catch_on(runtime: &Handle) -> Result<Requests> {
        let (tell, came) = watch::channel((0, 0));
        let (tell, flag) = (Arc::new(tell), Arc::<AtomicBool>::default());
        for kind in [SignalKind::terminate(), SignalKind::hangup()] {
            if is_ignored(kind.as_raw_value()) {
                continue;
            }
            let entered = runtime.enter();
            let mut signals = signal(kind).map_err(|error| Error::io("cannot wait for signals", error))?;
            drop(entered);
            let (tell, flag) = (tell.clone(), flag.clone());
            // Runs until the process exits.
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    tell.send_modify(|(count, status)| {
                        *count += 1;
                        *status = 128 + kind.as_raw_value();
                    });
                    flag.store(true, Ordering::SeqCst);
                }
            });
        }
        Ok(Requests { came, flag })
    }

    /// Returns the exit status, if a request has come.
    pub fn status(&self) -> Option<i32> {
        let (count, status) = *self.came.borrow();
        (count > 0).then_some(status)
    }

    /// Waits for a request.
    pub async fn asked(&self) {
        self.count(1).await;
    }

    /// Waits for one more request.
    pub async fn again(&self) {
        let so_far = self.came.borrow().0;
        self.count(so_far + 1).await;
    }

    async fn count(&self, least: usize) {
        if self.came.clone().wait_for(|(count, _)| *count >= least).await.is_err() {
            std::future::pending().await
        }
    }
}
