//! How gpmd comes to its end, step by step.
//!
//! In: that it is asked to end, what must end before it does. Out: each step to whoever waits for it. Must
//! not know: connections, sockets.

use std::cell::RefCell;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::registry_handler::Subscribers;
use crate::base::error::{Code, Error, Result};

/// How long leaving waits for an upload whose bytes still arrive: they come over a local socket, unless their
/// sender has stopped.
const UPLOADS_ARRIVE: Duration = Duration::from_secs(5);

/// How long leaving waits for an upload that is being stored: the largest takes a few seconds.
const UPLOADS_STORED: Duration = Duration::from_secs(25);

/// The way to the end. Belongs to the server's thread.
pub struct Stop {
    step: watch::Sender<Step>,
    reason: RefCell<String>,
    arriving: watch::Sender<usize>,
    storing: watch::Sender<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Step {
    Runs,
    Asked,
    /// Nodes are told, uploads have ended.
    Ready,
    Closes,
}

/// Something that must end whole, if it can.
pub struct Busy(watch::Sender<usize>);

impl Busy {
    fn with(count: &watch::Sender<usize>) -> Busy {
        count.send_modify(|count| *count += 1);
        Busy(count.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Default for Stop {
    fn default() -> Stop {
        let (arriving, storing) = (watch::Sender::new(0), watch::Sender::new(0));
        Stop { step: watch::Sender::new(Step::Runs), reason: RefCell::default(), arriving, storing }
    }
}

impl Stop {
    /// Asks gpmd to stop.
    pub fn ask(&self, reason: String) {
        if *self.step.borrow() == Step::Runs {
            *self.reason.borrow_mut() = reason;
            self.step.send_replace(Step::Asked);
        }
    }

    /// Lets an upload begin; the end waits for its bytes for a while.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` once gpmd was asked to stop.
    pub fn begin(&self) -> Result<Busy> {
        match *self.step.borrow() {
            Step::Runs => Ok(Busy::with(&self.arriving)),
            _ => Err(Error::new(
                Code::GpmdNotRunning,
                "gpmd is being stopped: start it again with `gpmd start`",
            )),
        }
    }

    /// Lets the end wait until an upload is stored, which has begun already.
    pub fn storing(&self) -> Busy {
        Busy::with(&self.storing)
    }

    /// Waits until this step is reached.
    pub async fn reach(&self, step: Step) {
        let _ = self.step.subscribe().wait_for(|reached| *reached >= step).await;
    }

    /// Goes the way to the end, once asked: tells everyone, lets uploads end, then has connections closed.
    pub async fn carry_out(&self, subscribers: &Subscribers) {
        let reason = self.reason.borrow().clone();
        tracing::info!(reason, "gpmd leaves");
        subscribers.tell_goodbye(&reason).await;
        for (count, most) in [(&self.arriving, UPLOADS_ARRIVE), (&self.storing, UPLOADS_STORED)] {
            let mut count = count.subscribe();
            if timeout(most, count.wait_for(|count| *count == 0)).await.is_err() {
                tracing::warn!("an upload did not end in time: nothing of it is kept");
            }
        }
        self.step.send_replace(Step::Ready);
        // The command that asked gets its answer before its connection closes.
        sleep(Duration::from_millis(10)).await;
        self.step.send_replace(Step::Closes);
    }
}
