//! Watching over a connection: whether its other side still lives.
//!
//! In: signs of life, a way to ask for one. Out: the end of the connection of a side that is silent. Must
//! not know: what is said over it, how a beat is judged (`pulse.rs`).

use std::rc::Rc;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::task::AbortOnDropHandle;

use super::pulse::{BEAT, Beat, Pulse, Signs};

/// Watches over a connection without holding it. Cheap to clone; belongs to one thread.
#[derive(Clone)]
pub struct Watcher {
    signs: Signs,
    give_up: Rc<dyn Fn()>,
}

impl Watcher {
    /// Of a connection that shows these signs and can be given up so.
    pub(super) fn new(signs: Signs, give_up: impl Fn() + 'static) -> Watcher {
        Watcher { signs, give_up: Rc::new(give_up) }
    }

    /// Gives the connection up once the other side gives no sign of life for some seconds, though `ask` asks
    /// it for one; whatever it sends is one. `ask` is called when nothing was heard for a while, one at a
    /// time. Ends when the guard is dropped.
    pub fn watch<F: Future + 'static>(&self, ask: impl Fn() -> F + 'static) -> AbortOnDropHandle<()> {
        let Watcher { signs, give_up } = self.clone();
        AbortOnDropHandle::new(tokio::task::spawn_local(async move {
            silence(signs, ask).await;
            give_up();
        }))
    }
}

/// Returns once the other side has been silent for too long.
async fn silence<F: Future>(signs: Signs, ask: impl Fn() -> F) {
    let mut beats = interval_at(Instant::now() + BEAT, BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut pulse, mut last) = (Pulse::default(), Instant::now());
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
            // The answer itself says nothing that its bytes have not said.
            _ = async { match asking.as_mut() {
                Some(asking) => asking.await,
                None => std::future::pending().await,
            }} => asking = None,
        }
    }
}
