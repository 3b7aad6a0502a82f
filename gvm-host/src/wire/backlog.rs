//! Bounds the answers that wait because the other side does not read them.
//!
//! In: the messages of one connection, before they are sent and when they are. Out: the same messages; while many bytes of answers
//! are unsent, requests are read slowly, and in the end the connection is closed. Must not know: what is asked and answered.
//!
//! capnp-rpc queues outgoing messages without a limit. So a peer that sends requests and reads nothing would fill the memory.
//! Requests that this side makes are not counted: its own users bound them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use capnp::Error;
use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator};
use capnp_rpc::rpc_capnp::message;
use capnp_rpc::{Connection, FlowController, IncomingMessage, OutgoingMessage, VatNetwork};
use tokio::time::{Instant, timeout};

/// The bytes of unsent answers of a connection above which its requests are read slowly: hundreds of ordinary answers. If all
/// connections of the process together have more than `MANY_OF_ALL`, then `FEW` are enough.
const MANY: usize = 4 << 20;
const MANY_OF_ALL: usize = 64 << 20;
const FEW: usize = 256 << 10;

/// The bytes of unsent answers of all connections of this process.
static OF_ALL: AtomicUsize = AtomicUsize::new(0);

/// The bytes of unsent answers above which the connection is closed.
const TOO_MANY: usize = 64 << 20;

/// The least that an answer counts: its memory, however small it is.
const LEAST: usize = 1 << 10;

/// How long to wait for the other side to read before one more request is read. Two sides that wait for each other read
/// on, so neither waits for ever.
const SLOW: Duration = Duration::from_millis(100);

/// How long answers may be unsent without one of them being sent.
const STUCK: Duration = Duration::from_secs(30);

/// The unsent messages of one connection. Clones share them; belongs to one thread.
#[derive(Clone, Default)]
pub struct Backlog(Rc<Shared>);

#[derive(Default)]
struct Shared {
    /// What each unsent message counts, oldest first.
    unsent: RefCell<VecDeque<usize>>,
    bytes: Cell<usize>,
    /// When a message was sent last.
    sent: Cell<Option<Instant>>,
    waits: RefCell<Option<Waker>>,
}

impl Backlog {
    /// Returns the bytes of unsent answers.
    pub fn bytes(&self) -> usize {
        self.0.bytes.get()
    }

    fn is_long(&self) -> bool {
        self.bytes() > FEW && (self.bytes() > MANY || OF_ALL.load(Ordering::Relaxed) > MANY_OF_ALL)
    }

    fn is_stuck(&self) -> bool {
        self.0.sent.get().is_some_and(|sent| sent.elapsed() > STUCK) || self.bytes() > TOO_MANY
    }

    fn queued(&self, counts: usize) {
        if self.0.unsent.borrow().is_empty() {
            self.0.sent.set(Some(Instant::now()));
        }
        self.0.unsent.borrow_mut().push_back(counts);
        self.0.bytes.set(self.0.bytes.get() + counts);
        OF_ALL.fetch_add(counts, Ordering::Relaxed);
    }

    /// Notes that the oldest message has been sent.
    pub fn sent(&self) {
        let Some(counts) = self.0.unsent.borrow_mut().pop_front() else { return };
        self.0.bytes.set(self.0.bytes.get().saturating_sub(counts));
        OF_ALL.fetch_sub(counts, Ordering::Relaxed);
        self.0.sent.set(Some(Instant::now()));
        if !self.is_long()
            && let Some(waker) = self.0.waits.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Waits until the next request may be read.
    ///
    /// # Errors
    /// If the other side reads too little of what it asked for.
    async fn room(&self) -> Result<(), Error> {
        self.check()?;
        let drained = poll_fn(|cx| match self.is_long() {
            false => Poll::Ready(()),
            true => {
                *self.0.waits.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        });
        let _ = timeout(SLOW, drained).await;
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        match self.is_stuck() && self.is_long() {
            true => Err(Error::overloaded("the other side does not read its answers".into())),
            false => Ok(()),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        OF_ALL.fetch_sub(self.bytes.get(), Ordering::Relaxed);
    }
}

/// A network of two sides whose answers are counted.
pub struct Counted<N> {
    network: N,
    backlog: Backlog,
}

impl<N> Counted<N> {
    /// Counts the answers of this network. What writes its messages calls [`Backlog::sent`] for each.
    pub fn new(network: N, backlog: Backlog) -> Counted<N> {
        Counted { network, backlog }
    }
}

impl<Id: 'static, N: VatNetwork<Id>> VatNetwork<Id> for Counted<N> {
    fn connect(&mut self, host: Id) -> Option<Box<dyn Connection<Id>>> {
        let connection = self.network.connect(host)?;
        Some(CountedConnection::wrap(connection, self.backlog.clone()))
    }

    fn accept(&mut self) -> Promise<Box<dyn Connection<Id>>, Error> {
        let (accepting, backlog) = (self.network.accept(), self.backlog.clone());
        Promise::from_future(async move { Ok(CountedConnection::wrap(accepting.await?, backlog)) })
    }

    fn drive_until_shutdown(&mut self) -> Promise<(), Error> {
        self.network.drive_until_shutdown()
    }
}

struct CountedConnection<Id> {
    connection: Rc<RefCell<Box<dyn Connection<Id>>>>,
    backlog: Backlog,
}

impl<Id: 'static> CountedConnection<Id> {
    fn wrap(connection: Box<dyn Connection<Id>>, backlog: Backlog) -> Box<dyn Connection<Id>> {
        Box::new(CountedConnection { connection: Rc::new(RefCell::new(connection)), backlog })
    }
}

impl<Id: 'static> Connection<Id> for CountedConnection<Id> {
    fn get_peer_vat_id(&self) -> Id {
        self.connection.borrow().get_peer_vat_id()
    }

    fn new_outgoing_message(&mut self, first_segment_word_size: u32) -> Box<dyn OutgoingMessage> {
        let message = self.connection.borrow_mut().new_outgoing_message(first_segment_word_size);
        Box::new(CountedMessage { message, backlog: self.backlog.clone() })
    }

    fn receive_incoming_message(&mut self) -> Promise<Option<Box<dyn IncomingMessage>>, Error> {
        if !self.backlog.is_long() {
            return self.connection.borrow_mut().receive_incoming_message();
        }
        let (connection, backlog) = (self.connection.clone(), self.backlog.clone());
        Promise::from_future(async move {
            backlog.room().await?;
            let mut receiving = connection.borrow_mut().receive_incoming_message();
            loop {
                match timeout(STUCK, &mut receiving).await {
                    Ok(received) => return received,
                    Err(_) => backlog.check()?,
                }
            }
        })
    }

    fn new_stream(&mut self) -> (Box<dyn FlowController>, Promise<(), Error>) {
        self.connection.borrow_mut().new_stream()
    }

    fn shutdown(&mut self, result: Result<(), Error>) -> Promise<(), Error> {
        self.connection.borrow_mut().shutdown(result)
    }
}

struct CountedMessage {
    message: Box<dyn OutgoingMessage>,
    backlog: Backlog,
}

impl CountedMessage {
    fn is_answer(&self) -> bool {
        let body = self.message.get_body_as_reader().and_then(|body| body.get_as::<message::Reader<'_>>());
        body.is_ok_and(|body| matches!(body.which(), Ok(message::Return(_))))
    }
}

impl OutgoingMessage for CountedMessage {
    fn get_body(&mut self) -> capnp::Result<capnp::any_pointer::Builder<'_>> {
        self.message.get_body()
    }

    fn get_body_as_reader(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.message.get_body_as_reader()
    }

    fn send(self: Box<Self>) -> (Promise<(), Error>, Rc<Builder<HeapAllocator>>) {
        let counts = if self.is_answer() { (self.message.size_in_words() * 8).max(LEAST) } else { 0 };
        self.backlog.queued(counts);
        self.message.send()
    }

    fn take(self: Box<Self>) -> Builder<HeapAllocator> {
        self.message.take()
    }

    fn size_in_words(&self) -> usize {
        self.message.size_in_words()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Context;

    use capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side as VatSide, twoparty};
    use tokio::io::{AsyncRead, ReadBuf};
    use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

    use super::super::rpc::{Connection, MessageLimits, Side};
    use super::super::schema::gpmd_capnp::bytes;
    use super::super::transport::Transport;
    use super::*;

    /// Answers with as many bytes as asked, and counts the requests.
    struct Large(Rc<Cell<usize>>);

    impl bytes::Server for Large {
        async fn read(
            self: Rc<Self>,
            params: bytes::ReadParams,
            mut results: bytes::ReadResults,
        ) -> Result<(), Error> {
            self.0.set(self.0.get() + 1);
            results.get().init_data(params.get()?.get_length());
            Ok(())
        }
    }

    /// Reads nothing until it may.
    struct Gate<R>(R, Rc<Cell<bool>>);

    impl<R: AsyncRead + Unpin> AsyncRead for Gate<R> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            if self.1.get() {
                return Pin::new(&mut self.0).poll_read(cx, into);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_served_any_more() {
        const ASKED: usize = 2000;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (near, far) = Transport::pair(64 << 10);
            let (served, reads) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
            let large: bytes::Client = capnp_rpc::new_client(Large(served.clone()));
            let server = Connection::start(far, Side::Accepted, MessageLimits::CONTROL, Some(large.client));
            let (reader, writer) = tokio::io::split(near);
            let network = twoparty::VatNetwork::new(
                futures::io::BufReader::new(Gate(reader, reads.clone()).compat()),
                writer.compat_write(),
                VatSide::Client,
                capnp::message::ReaderOptions::default(),
            );
            let mut system = RpcSystem::new(Box::new(network), None);
            let client: bytes::Client = system.bootstrap(VatSide::Server);
            tokio::task::spawn_local(system);
            let asking: Vec<_> = (0..ASKED)
                .map(|_| {
                    let mut request = client.read_request();
                    request.get().set_length(100_000);
                    request.send().promise
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(500)).await;
            let before = served.get();
            assert!(before * 100_000 > MANY / 2 && before * 100_000 < 2 * MANY, "{before} were served");
            // One more now and then.
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(served.get() - before <= 8, "{} more were served", served.get() - before);
            reads.set(true);
            let answers = futures::future::join_all(asking).await;
            assert!(answers.iter().all(Result::is_ok));
            assert_eq!(served.get(), ASKED);
            drop(server);
        });
    }
}
