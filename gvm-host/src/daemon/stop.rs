//! The steps by which gpmd stops.
//!
//! In: the request to stop, and the uploads that must end first. Out: each step, for the tasks that wait for
//! it. Must not know: connections, sockets.

use std::cell::RefCell;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::registry_handler::Subscribers;
use crate::base::error::{Code, Error, Result};

/// How long to wait for an upload whose bytes still arrive. They come over a local socket, so a longer wait
/// means that the sender has stopped.
const UPLOADS_ARRIVE: Duration = Duration::from_secs(5);

/// How long to wait for an upload that is being stored. The largest takes a few seconds.
const UPLOADS_STORED: Duration = Duration::from_secs(25);

/// The current step, and the uploads that are under way. Belongs to the server's thread.
pub struct Stop {
    step: watch::Sender<Step>,
    reason: RefCell<String>,
    arriving: watch::Sender<usize>,
    storing: watch::Sender<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Step {
    Runs,
    /// gpmd was asked to stop.
    Asked,
    /// Nodes are told, uploads have ended.
    Ready,
    /// Connections are closed.
    Closes,
}

/// An upload that the stop waits for, while this guard lives.
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
    /// Asks gpmd to stop. The first reason counts.
    pub fn ask(&self, reason: String) {
        if *self.step.borrow() == Step::Runs {
            *self.reason.borrow_mut() = reason;
            self.step.send_replace(Step::Asked);
        }
    }

    /// Returns whether gpmd was asked to stop.
    pub fn is_asked(&self) -> bool {
        *self.step.borrow() >= Step::Asked
    }

    /// Lets an upload begin. A stop waits for its bytes for a while.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` after gpmd was asked to stop.
    pub fn begin(&self) -> Result<Busy> {
        match *self.step.borrow() {
            Step::Runs => Ok(Busy::with(&self.arriving)),
            _ => Err(Error::new(Code::GpmdNotRunning, "gpmd is being stopped")
                .with_help("run `gpmd start` and try again")),
        }
    }

    /// Makes a stop wait until an upload that has begun is stored.
    pub fn storing(&self) -> Busy {
        Busy::with(&self.storing)
    }

    /// Waits until this step is reached.
    pub async fn reach(&self, step: Step) {
        let _ = self.step.subscribe().wait_for(|reached| *reached >= step).await;
    }

    /// Stops: tells all subscribers, waits for uploads, then lets the connections close.
    pub async fn carry_out(&self, subscribers: &Subscribers) {
        let reason = self.reason.borrow().clone();
        tracing::info!(reason, "gpmd is stopping");
        subscribers.say_goodbye(&reason).await;
        for (count, most) in [(&self.arriving, UPLOADS_ARRIVE), (&self.storing, UPLOADS_STORED)] {
            let mut count = count.subscribe();
            if timeout(most, count.wait_for(|count| *count == 0)).await.is_err() {
                tracing::warn!("an upload did not end in time and is discarded");
            }
        }
        self.step.send_replace(Step::Ready);
        // Gives the command that asked time to read its answer before its connection closes.
        sleep(Duration::from_millis(10)).await;
        self.step.send_replace(Step::Closes);
    }
}
