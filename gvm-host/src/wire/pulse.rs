//! Whether the other side of a connection still lives.
//!
//! In: the bytes that come, and those that go once they had to wait; the time. Out: when to ask the
//! other side for a sign of life, and when to give it up. Must not know: how it is asked.
//!
//! What counts is beats that passed without a sign, not the time alone: after this process was stopped,
//! starved or put to sleep, the other side gets its chance to be heard first.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Between two looks at whether anything was heard: an idle connection costs a small message in this
/// time, a silent one is known within some of it.
pub const BEAT: Duration = Duration::from_millis(1500);

/// Beats without a sign, each of them asked for, after which the other side is given up: 6 to 8 s.
const MOST_MISSED: u32 = 3;

/// A beat that comes this much late was held up here, and says nothing about the other side.
const LATE: Duration = Duration::from_secs(1);

/// How often the other side was heard. Clones count together; belongs to one thread.
#[derive(Clone, Debug, Default)]
pub struct Signs(Rc<Cell<u64>>);

impl Signs {
    fn heard(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }

    /// How many there were so far.
    pub fn count(&self) -> u64 {
        self.0.get()
    }
}

/// What to do at a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// It was heard.
    Alive,
    /// It was not: ask, unless it is being asked.
    Ask,
    /// It was asked often enough.
    Dead,
}

/// Counts beats. Plain data.
#[derive(Debug, Default)]
pub struct Pulse {
    signs: u64,
    missed: u32,
}

impl Pulse {
    /// One beat: how many signs there were so far, and how long ago the last beat was.
    pub fn beat(&mut self, signs: u64, since_last: Duration) -> Beat {
        if signs != self.signs {
            self.signs = signs;
            self.missed = 0;
            return Beat::Alive;
        }
        if since_last > BEAT + LATE {
            return Beat::Ask;
        }
        self.missed += 1;
        if self.missed > MOST_MISSED { Beat::Dead } else { Beat::Ask }
    }
}

/// A reader that notes what comes.
pub struct HeardReader {
    inner: Box<dyn AsyncRead + Unpin>,
    signs: Signs,
}

/// A writer that notes when the other side takes what had to wait. What merely fits into a buffer of
/// this side's kernel is no sign of life.
pub struct HeardWriter {
    inner: Box<dyn AsyncWrite + Unpin>,
    signs: Signs,
    waited: bool,
}

/// Both, noting in the same place.
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

    #[test]
    fn silence_is_death_after_some_beats_that_were_asked_for() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.beat(1, BEAT), Beat::Alive);
        for _ in 0..MOST_MISSED {
            assert_eq!(pulse.beat(1, BEAT), Beat::Ask);
        }
        assert_eq!(pulse.beat(1, BEAT), Beat::Dead);
    }

    #[test]
    fn a_sign_forgives_what_was_missed() {
        let mut pulse = Pulse::default();
        for round in 0..10 {
            assert_eq!(pulse.beat(round, BEAT), if round == 0 { Beat::Ask } else { Beat::Alive });
            for _ in 1..MOST_MISSED {
                assert_eq!(pulse.beat(round, BEAT), Beat::Ask);
            }
        }
    }

    #[test]
    fn beats_that_were_late_here_do_not_count() {
        let mut pulse = Pulse::default();
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
    fn only_what_the_other_side_does_is_a_sign() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(10);
            let (reader, writer) = tokio::io::split(near);
            let (mut reader, mut writer, signs) = listen(Box::new(reader), Box::new(writer));
            writer.write_all(&[0; 10]).await.unwrap();
            assert_eq!(signs.count(), 0, "it fits into the buffer");
            let mut taken = [0; 15];
            let (written, read) = tokio::join!(writer.write_all(&[0; 5]), far.read_exact(&mut taken));
            assert!(written.is_ok() && read.is_ok() && signs.count() > 0, "it was taken");
            let before = signs.count();
            far.write_all(b"x").await.unwrap();
            reader.read_u8().await.unwrap();
            assert_eq!(signs.count(), before + 1);
        });
    }
}
