//! Joins many small messages into one write to the socket.
//!
//! In: the bytes that capnp-rpc writes and flushes message by message. Out: the same bytes; each write to the
//! socket has everything that was gathered since the last one. Must not know: where a message ends.
//! (Pipelined calls over a Unix socket: 63,000 per second without it, 102,000 with it.)

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::backlog::Backlog;

/// Bytes held before the writer has to wait: enough for hundreds of small messages, and few enough that a
/// slow reader soon slows the writer. A larger message passes piece by piece.
const MOST: usize = 256 << 10;

/// Creates the two halves: capnp-rpc writes to [`Gather`] and flushes after each message, which `backlog` learns; [`Pump`] sends
/// to the socket. Nothing is sent unless [`Pump::run`] is polled. Both belong to one thread.
pub fn coalesce(socket: Box<dyn AsyncWrite + Unpin>, backlog: Backlog) -> (Gather, Pump) {
    let shared = Rc::new(RefCell::new(Shared::default()));
    (Gather(shared.clone(), backlog), Pump { shared, socket })
}

#[derive(Default)]
struct Shared {
    gathered: Vec<u8>,
    pump: Option<Waker>,
    writer: Option<Waker>,
    closed: bool,
    failed: Option<io::ErrorKind>,
}

impl Shared {
    fn wake_pump(&mut self) {
        if let Some(waker) = self.pump.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

/// The writing half. Closing or dropping it lets the pump end after everything has been sent.
pub struct Gather(Rc<RefCell<Shared>>, Backlog);

impl futures::io::AsyncWrite for Gather {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut shared = self.0.borrow_mut();
        if let Some(kind) = shared.failed {
            return Poll::Ready(Err(kind.into()));
        }
        if shared.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = MOST.saturating_sub(shared.gathered.len());
        if room == 0 && !bytes.is_empty() {
            shared.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = bytes.len().min(room);
        shared.gathered.extend_from_slice(&bytes[..taken]);
        shared.wake_pump();
        Poll::Ready(Ok(taken))
    }

    /// Returns at once: the pump sends without a flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.borrow().failed {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => {
                self.1.sent();
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.borrow_mut();
        shared.closed = true;
        shared.wake_pump();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.closed = true;
        shared.wake_pump();
    }
}

/// The half that sends the bytes to the socket.
pub struct Pump {
    shared: Rc<RefCell<Shared>>,
    socket: Box<dyn AsyncWrite + Unpin>,
}

impl Pump {
    /// Sends until the other half is closed and everything that it wrote is sent. Do not drop this future
    /// before it ends and call it again: the bytes of an unfinished write would be lost.
    ///
    /// # Errors
    /// Errors of the socket; writes to the other half then fail too.
    pub async fn run(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        while self.next(&mut out).await {
            let sent = match self.socket.write_all(&out).await {
                Ok(()) => self.socket.flush().await,
                failed => failed,
            };
            if let Err(error) = sent {
                let mut shared = self.shared.borrow_mut();
                shared.failed = Some(error.kind());
                shared.gathered = Vec::new();
                shared.wake_writer();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Tells the other end, within a time limit, that no more data follows.
    ///
    /// # Errors
    /// Errors of the socket; `TimedOut`.
    pub async fn finish(mut self, within: Duration) -> io::Result<()> {
        match tokio::time::timeout(within, self.socket.shutdown()).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Waits for bytes and takes them all; returns false if no more will come.
    async fn next(&self, out: &mut Vec<u8>) -> bool {
        out.clear();
        poll_fn(|cx| {
            let mut shared = self.shared.borrow_mut();
            if !shared.gathered.is_empty() {
                std::mem::swap(&mut shared.gathered, out);
                shared.wake_writer();
                return Poll::Ready(true);
            }
            if shared.closed {
                return Poll::Ready(false);
            }
            shared.pump = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures::io::AsyncWriteExt as _;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn everything_written_before_the_close_arrives_in_order() {
        run(async {
            let (near, mut far) = tokio::io::duplex(100);
            let (mut gather, mut pump) = coalesce(Box::new(near), Backlog::default());
            let written: Vec<u8> = (0..3 * MOST).map(|index| (index % 251) as u8).collect();
            let writing = async {
                gather.write_all(&written).await.unwrap();
                drop(gather);
            };
            let pumping = async {
                pump.run().await.unwrap();
                pump.finish(Duration::from_secs(1)).await.unwrap();
            };
            let mut read = Vec::new();
            let (_, _, count) = tokio::join!(writing, pumping, far.read_to_end(&mut read));
            assert_eq!(count.unwrap(), written.len());
            assert!(read == written);
        });
    }

    #[test]
    fn a_reader_that_stops_blocks_the_writer() {
        run(async {
            let (near, _far) = tokio::io::duplex(10);
            let (mut gather, mut pump) = coalesce(Box::new(near), Backlog::default());
            let written = std::cell::Cell::new(0);
            let writing = async {
                loop {
                    gather.write_all(&[0; 1024]).await.unwrap();
                    written.set(written.get() + 1024);
                }
            };
            let both = futures::future::join(writing, pump.run());
            assert!(tokio::time::timeout(Duration::from_millis(100), both).await.is_err());
            assert!(written.get() >= MOST && written.get() <= 2 * MOST + 1024, "{}", written.get());
        });
    }

    #[test]
    fn a_socket_that_fails_fails_the_writer() {
        run(async {
            let (near, far) = tokio::io::duplex(10);
            drop(far);
            let (mut gather, mut pump) = coalesce(Box::new(near), Backlog::default());
            gather.write_all(b"lost").await.unwrap();
            assert!(pump.run().await.is_err());
            assert!(gather.write_all(b"more").await.is_err());
        });
    }
}
