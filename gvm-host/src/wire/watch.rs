//! Watches whether the other side of a connection is alive.
//!
//! In: signs of life, a way to ping. Out: the end of a connection whose other side is silent. Must not know:
//! the messages that cross it, how a beat is judged (`pulse.rs`).

use std::rc::Rc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::task::AbortOnDropHandle;

use super::pulse::{Beat, Pace, Pulse, Signs};

/// Watches a connection without keeping it alive. Cheap to clone; belongs to one thread.
#[derive(Clone)]
pub struct Watcher {
    signs: Signs,
    give_up: Rc<dyn Fn()>,
}

impl Watcher {
    /// Creates a watcher of the connection that has these signs of life; `give_up` ends it.
    pub(super) fn new(signs: Signs, give_up: impl Fn() + 'static) -> Watcher {
        Watcher { signs, give_up: Rc::new(give_up) }
    }

    /// Ends the connection when the other side has shown no sign of life for some seconds, although `ask`
    /// pinged it. Everything that it sends is a sign of life. `ask` is called after a silent beat; one ping
    /// runs at a time. Dropping the guard stops the watch.
    pub fn watch<F: Future + 'static>(&self, ask: impl Fn() -> F + 'static) -> AbortOnDropHandle<()> {
        self.watch_at(Pace::NODES, ask)
    }

    /// Does the same at another pace.
    pub fn watch_at<F: Future + 'static>(
        &self,
        pace: Pace,
        ask: impl Fn() -> F + 'static,
    ) -> AbortOnDropHandle<()> {
        let Watcher { signs, give_up } = self.clone();
        AbortOnDropHandle::new(tokio::task::spawn_local(async move {
            silence(signs, pace, ask).await;
            give_up();
        }))
    }
}

/// Returns when the other side has been silent for too long.
async fn silence<F: Future>(signs: Signs, pace: Pace, ask: impl Fn() -> F) {
    let mut beats = interval_at(Instant::now() + pace.beat, pace.beat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut pulse, mut last) = (Pulse::new(pace), Instant::now());
    let mut asking = None;
    loop {
        tokio::select! {
            _ = beats.tick() => {
                let since = std::mem::replace(&mut last, Instant::now()).elapsed();
                match pulse.beat(signs.count(), since) {
                    Beat::Alive => asking = None,
                    Beat::Ask if asking.is_none() => asking = Some(Box::pin(ask())),
                    Beat::Ask => {}
                    Beat::Dead => return,
                }
            }
            // The answer needs no handling: its bytes have already counted as a sign of life.
            _ = async { match asking.as_mut() {
                Some(asking) => asking.await,
                None => std::future::pending().await,
            }} => asking = None,
        }
    }
}
