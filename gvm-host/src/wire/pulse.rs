//! Decides whether the other side of a connection is alive.
//!
//! In: received bytes, sent bytes that had to wait, the time. Out: when to ping the other side, and when to
//! give it up. Must not know: how a ping is sent.
//!
//! It counts beats without a sign of life, not time alone: after this process was stopped, starved or
//! suspended, the other side first gets the chance to be heard.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often to check for signs of life, and how soon to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The time between two checks: an idle connection costs one small message per beat, and a silent one is noticed after
    /// a few beats.
    pub beat: Duration,
    /// Beats with an unanswered ping after which the other side is given up.
    pub missed: u32,
}

impl Pace {
    /// For connections of nodes: 6 to 8 s.
    pub const NODES: Pace = Pace { beat: Duration::from_millis(1500), missed: 3 };

    /// For the connection between two devices: 3 to 4 s, because the nodes of a dead device must not be listed longer than
    /// 5 s.
    pub const DEVICES: Pace = Pace { beat: Duration::from_secs(1), missed: 2 };
}

/// A beat that is this late was delayed on this side, and says nothing about the other side.
const LATE: Duration = Duration::from_secs(1);

/// A counter of signs of life. Clones share one count; belongs to one thread.
#[derive(Clone, Debug, Default)]
pub struct Signs(Rc<Cell<u64>>);

impl Signs {
    fn heard(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }

    /// Returns how many signs there were so far.
    pub fn count(&self) -> u64 {
        self.0.get()
    }
}

/// What to do at a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// There was a sign of life.
    Alive,
    /// There was none: send a ping, unless one is pending.
    Ask,
    /// Too many beats passed without a sign.
    Dead,
}

/// Counts beats. Plain data.
#[derive(Debug)]
pub struct Pulse {
    pace: Pace,
    signs: u64,
    missed: u32,
}

impl Pulse {
    /// Creates a counter that gives up at this pace.
    pub fn new(pace: Pace) -> Pulse {
        Pulse { pace, signs: 0, missed: 0 }
    }

    /// Handles one beat, given the count of signs so far and the time since the last beat.
    pub fn beat(&mut self, signs: u64, since_last: Duration) -> Beat {
        if signs != self.signs {
            self.signs = signs;
            self.missed = 0;
            return Beat::Alive;
        }
        if since_last > self.pace.beat + LATE {
            return Beat::Ask;
        }
        self.missed += 1;
        if self.missed > self.pace.missed { Beat::Dead } else { Beat::Ask }
    }
}

/// A reader that counts received data as a sign of life.
pub struct HeardReader {
    inner: Box<dyn AsyncRead + Unpin>,
    signs: Signs,
}

/// A writer that counts a sign of life when the other side reads data that had to wait. Data that merely fits
/// into a buffer of this side's kernel is not a sign of life.
pub struct HeardWriter {
    inner: Box<dyn AsyncWrite + Unpin>,
    signs: Signs,
    waited: bool,
}

/// Wraps both halves of a connection; they share one counter.
pub fn listen(
    reader: Box<dyn AsyncRead + Unpin>,
    writer: Box<dyn AsyncWrite + Unpin>,
) -> (HeardReader, HeardWriter, Signs) {
    let signs = Signs::default();
    let reader = HeardReader { inner: reader, signs: signs.clone() };
    let writer = HeardWriter { inner: writer, signs: signs.clone(), waited: false };
    (reader, writer, signs)
}

impl AsyncRead for HeardReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, into);
        if into.filled().len() > before {
            self.signs.heard();
        }
        polled
    }
}

impl HeardWriter {
    fn noting<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &polled {
            Poll::Pending => self.waited = true,
            Poll::Ready(Ok(_)) if std::mem::take(&mut self.waited) => self.signs.heard(),
            Poll::Ready(_) => {}
        }
        polled
    }
}

impl AsyncWrite for HeardWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.noting(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.noting(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const BEAT: Duration = Pace::NODES.beat;
    const MOST_MISSED: u32 = Pace::NODES.missed;

    #[test]
    fn a_silent_side_is_dead_after_some_pings() {
        let mut pulse = Pulse::new(Pace::NODES);
        assert_eq!(pulse.beat(1, BEAT), Beat::Alive);
        for _ in 0..MOST_MISSED {
            assert_eq!(pulse.beat(1, BEAT), Beat::Ask);
        }
        assert_eq!(pulse.beat(1, BEAT), Beat::Dead);
    }

    #[test]
    fn a_sign_resets_the_missed_beats() {
        let mut pulse = Pulse::new(Pace::NODES);
        for round in 0..10 {
            assert_eq!(pulse.beat(round, BEAT), if round == 0 { Beat::Ask } else { Beat::Alive });
            for _ in 1..MOST_MISSED {
                assert_eq!(pulse.beat(round, BEAT), Beat::Ask);
            }
        }
    }

    #[test]
    fn late_beats_do_not_count() {
        let mut pulse = Pulse::new(Pace::NODES);
        for _ in 0..MOST_MISSED {
            assert_eq!(pulse.beat(0, BEAT), Beat::Ask);
        }
        for _ in 0..10 {
            assert_eq!(pulse.beat(0, Duration::from_secs(60)), Beat::Ask);
        }
        assert_eq!(pulse.beat(1, Duration::from_secs(60)), Beat::Alive);
        assert_eq!(pulse.beat(1, BEAT), Beat::Ask);
    }

    #[test]
    fn only_activity_of_the_other_side_is_a_sign() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(10);
            let (reader, writer) = tokio::io::split(near);
            let (mut reader, mut writer, signs) = listen(Box::new(reader), Box::new(writer));
            writer.write_all(&[0; 10]).await.unwrap();
            assert_eq!(signs.count(), 0, "it fits into the buffer");
            let mut taken = [0; 15];
            let (written, read) = tokio::join!(writer.write_all(&[0; 5]), far.read_exact(&mut taken));
            assert!(written.is_ok() && read.is_ok() && signs.count() > 0, "it was read");
            let before = signs.count();
            far.write_all(b"x").await.unwrap();
            reader.read_u8().await.unwrap();
            assert_eq!(signs.count(), before + 1);
        });
    }
}
