//! Connections whose handshake is not complete.
//!
//! In: handshakes that have begun. Out: each when it is complete. Must not know: what a handshake is, where connections come from.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::transport::{Place, Transport};

/// How long an accepted connection may take for its side of the handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

/// The most handshakes at once on one listener. One takes a millisecond, so only an attacker causes so many.
const MOST: usize = 64;

/// The end of a handshake: a connection, unless it was handed to a node.
type Arrival = Pin<Box<dyn Future<Output = io::Result<Option<Transport>>>>>;

/// The unfinished handshakes of one listener, oldest first. Dropping it ends them.
#[derive(Default)]
pub struct Arriving(Vec<Arrival>);

impl Arriving {
    /// Begins a handshake. Returns whether the oldest one was ended for it: a regular handshake is complete long before it is the
    /// oldest of so many.
    pub fn begin(&mut self, arrival: impl Future<Output = io::Result<Option<Transport>>> + 'static) -> bool {
        let is_full = self.0.len() >= MOST;
        if is_full {
            drop(self.0.remove(0));
        }
        self.0.push(Box::pin(arrival));
        is_full
    }

    /// Returns the next connection. `refused` gets the errors of the others.
    pub fn poll(&mut self, cx: &mut Context<'_>, refused: impl Fn(&io::Error)) -> Poll<Transport> {
        let mut next = 0;
        while let Some(arrival) = self.0.get_mut(next) {
            match arrival.as_mut().poll(cx) {
                Poll::Pending => next += 1,
                Poll::Ready(done) => {
                    drop(self.0.remove(next));
                    match done {
                        Ok(Some(transport)) => return Poll::Ready(transport),
                        Ok(None) => {}
                        Err(error) => refused(&error),
                    }
                }
            }
        }
        Poll::Pending
    }
}

/// The error for a handshake that takes too long.
pub fn late(from: Place) -> io::Error {
    let why = format!("{from} did not complete the handshake in time");
    io::Error::new(io::ErrorKind::TimedOut, why)
}
