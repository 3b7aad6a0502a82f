//! Signals: Ctrl-C stops what runs; who asks the program to end has it leave in order.
//!
//! In: signals. Out: futures of them, and the status to leave with. What whoever started us wants ignored
//! stays ignored. Must not know: what runs.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use gvm_cli::signal::is_ignored;
use gvm_host::workers;
use gvm_host::{Error, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Waits for Ctrl-C; for ever where that is to be ignored.
pub async fn interrupt() {
    static IGNORED: OnceLock<bool> = OnceLock::new();
    if *IGNORED.get_or_init(|| is_ignored(SignalKind::interrupt().as_raw_value()))
        || tokio::signal::ctrl_c().await.is_err()
    {
        std::future::pending().await
    }
}

/// Requests to end: SIGTERM, SIGHUP. Cheap to clone.
#[derive(Clone)]
pub struct Requests {
    /// How many came, and the last one's status.
    came: watch::Receiver<(usize, i32)>,
    /// Raised with the first.
    pub flag: Arc<AtomicBool>,
}

impl Requests {
    /// Catches them from now on.
    ///
    /// # Errors
    /// `INTERNAL` where the system refuses.
    pub fn catch() -> Result<Requests> {
        let (tell, came) = watch::channel((0, 0));
        let (tell, flag) = (Arc::new(tell), Arc::<AtomicBool>::default());
        for kind in [SignalKind::terminate(), SignalKind::hangup()] {
            if is_ignored(kind.as_raw_value()) {
                continue;
            }
            let entered = workers()?.enter();
            let mut signals = signal(kind).map_err(|error| Error::io("cannot wait for signals", error))?;
            drop(entered);
            let (tell, flag) = (tell.clone(), flag.clone());
            // Lives as long as the process.
            workers()?.spawn(async move {
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

    /// The status to leave with, once asked to.
    pub fn status(&self) -> Option<i32> {
        let (count, status) = *self.came.borrow();
        (count > 0).then_some(status)
    }

    /// Waits for a request.
    pub async fn asked(&self) {
        self.count(1).await;
    }

    /// Waits for a request beyond those there have been.
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
