//! The life of one connection: from a transport to capabilities, until either side disconnects.
//!
//! In: a [`Transport`] and the capability to offer. Out: the other side's first capability, when and why the
//! connection ended, an orderly shutdown. Must not know: which interfaces the capabilities have.
//!
//! Everything here belongs to one thread and is called on its `LocalRuntime` or `LocalSet`.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use capnp::capability::FromClientHook;
use capnp::message::ReaderOptions;
use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side as VatSide;
use capnp_rpc::twoparty::VatNetwork;
use futures::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::backlog::{Backlog, Counted};
use super::pulse::{self, Signs};
use super::transport::{OtherEnd, Transport};
use super::watch::Watcher;
use super::writer::{Pump, coalesce};
use crate::base::error::Result;

/// How long an orderly shutdown may take to send the last bytes.
const FINISH: Duration = Duration::from_secs(1);

/// How long this side keeps reading after a write has failed.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long closing a connection with a silent other side may take: nothing more will arrive.
const GIVE_UP: Duration = Duration::from_millis(100);

/// Bytes read ahead: some hundred small messages per system call.
const READ_AHEAD: usize = 64 << 10;

/// A capability of any interface that one side offers to the other.
pub type Offered = capnp::capability::Client;

/// Returns a capability that answers every request with `OVERLOADED`.
pub fn overloaded() -> Offered {
    capnp_rpc::new_broken_cap(capnp::Error::overloaded("too many connections".into()))
}

/// The limits of one message. A message that exceeds them ends its connection.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    words: usize,
    nesting: i32,
}

impl MessageLimits {
    /// For gpmd's sockets: 8 MiB per message. The largest message is a list of nodes (some 200 bytes each);
    /// upload chunks are far smaller. A frame of 72 bytes can make its reader reserve the full limit, so the
    /// limit is small. Nothing in these messages nests deeply.
    pub const CONTROL: MessageLimits = MessageLimits { words: 1 << 20, nesting: 32 };

    /// For sessions between nodes: 8 MiB per message, and values nested as deep as WIT types allow. The
    /// largest message has the arguments of a main (2 MiB); large values cross on the bulk connection.
    pub const SESSION: MessageLimits = MessageLimits { words: 1 << 20, nesting: 512 };

    /// For devices that may only join: 64 KiB per message, because anybody may send them.
    pub const STRANGER: MessageLimits = MessageLimits { words: 1 << 13, nesting: 16 };

    /// Returns the length of the longest message in bytes.
    pub(super) const fn bytes(self) -> usize {
        self.words * size_of::<u64>()
    }

    pub(super) fn options(self) -> ReaderOptions {
        ReaderOptions { traversal_limit_in_words: Some(self.words), nesting_limit: self.nesting }
    }
}

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Dialled,
    Accepted,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// This side ended it.
    Ours,
    /// The other side ended it, or its process has ended.
    Theirs,
    /// A message could not be read, or the connection failed.
    Broken(String),
    /// The other side did not answer pings.
    Silent,
}

/// A running connection. Dropping it shuts it down in order, within a bounded time, on this thread's runtime;
/// capabilities that came over it fail from then on.
pub struct Connection {
    first: Option<Offered>,
    peer: OtherEnd,
    stop: Rc<Stop>,
    signs: Signs,
    closed: watch::Receiver<Option<Closed>>,
}

/// Ends and observes a connection without keeping it alive. Cheap to clone; belongs to one thread.
#[derive(Clone)]
pub struct Grip {
    stop: Rc<Stop>,
    watcher: Watcher,
    closed: watch::Receiver<Option<Closed>>,
}

impl Grip {
    /// Waits until the connection has ended, and returns why.
    pub fn closed(&self) -> impl Future<Output = Closed> + use<> {
        ended(self.closed.clone())
    }

    /// Returns whether the connection has ended or is about to.
    pub fn is_closed(&self) -> bool {
        self.closed.borrow().is_some() || self.stop.verdict.borrow().is_some()
    }

    /// Ends the connection in order: everything sent before arrives.
    pub fn close(&self) {
        self.stop.ask(Closed::Ours);
    }

    /// Ends the connection at once, because the other side is silent.
    pub fn give_up(&self) {
        self.stop.ask(Closed::Silent);
    }

    /// Returns what watches the connection.
    pub fn watcher(&self) -> &Watcher {
        &self.watcher
    }
}

/// The request to end a connection, and the reason.
#[derive(Default)]
struct Stop {
    asked: Notify,
    verdict: RefCell<Option<Closed>>,
}

impl Stop {
    /// Requests the end; only the first reason counts.
    fn ask(&self, why: Closed) {
        self.verdict.borrow_mut().get_or_insert(why);
        self.asked.notify_one();
    }

    fn verdict(&self) -> Closed {
        self.verdict.borrow().clone().unwrap_or(Closed::Ours)
    }
}

impl Connection {
    /// Starts to speak. The other side's [`Connection::first`] returns `offered`.
    pub fn start(
        transport: Transport,
        side: Side,
        limits: MessageLimits,
        offered: Option<Offered>,
    ) -> Connection {
        let peer = transport.peer.clone();
        let (reader, writer) = tokio::io::split(transport);
        let (reader, writer, signs) = pulse::listen(Box::new(reader), Box::new(writer));
        let reader = futures::io::BufReader::with_capacity(READ_AHEAD, reader.compat());
        let backlog = Backlog::default();
        let (gather, pump) = coalesce(Box::new(writer), backlog.clone());
        let ours = match side {
            Side::Dialled => VatSide::Client,
            Side::Accepted => VatSide::Server,
        };
        let network = VatNetwork::new(reader, gather, ours, limits.options());
        let mut system = RpcSystem::new(Box::new(Counted::new(network, backlog)), offered);
        let first = (side == Side::Dialled).then(|| system.bootstrap(VatSide::Server));
        let stop = Rc::new(Stop::default());
        let (tell, closed) = watch::channel(None);
        let asked = stop.clone();
        tokio::task::spawn_local(async move {
            let why = drive(system, pump, &asked).await;
            tell.send_replace(Some(why));
        });
        Connection { first, peer, stop, signs, closed }
    }

    /// Returns what the other side offers. On the accepting side, returns a capability that always fails.
    pub fn first<C: FromClientHook>(&self) -> C {
        match &self.first {
            Some(client) => C::new(client.hook.clone()),
            None => {
                let why = capnp::Error::failed("the side that dialled offers nothing".into());
                C::new(capnp_rpc::new_broken_cap(why).hook)
            }
        }
    }

    /// Returns who is at the other end.
    pub fn peer(&self) -> &OtherEnd {
        &self.peer
    }

    /// Ends the connection as [`Closed::Silent`] when the other side shows no sign of life; see
    /// [`Watcher::watch`]. Call it once.
    pub fn watch<F: Future + 'static>(&self, ask: impl Fn() -> F + 'static) {
        let (watched, closed) = (self.watcher().watch(ask), self.closed());
        tokio::task::spawn_local(async move {
            closed.await;
            drop(watched);
        });
    }

    /// Returns an object that can do the same later, and does not keep the connection alive.
    pub fn watcher(&self) -> Watcher {
        let stop = self.stop.clone();
        Watcher::new(self.signs.clone(), move || stop.ask(Closed::Silent))
    }

    /// Returns what ends and observes the connection, and does not keep it alive.
    pub fn grip(&self) -> Grip {
        Grip { stop: self.stop.clone(), watcher: self.watcher(), closed: self.closed.clone() }
    }

    /// Waits until the connection has ended, and returns why. May be called several times; the future does
    /// not keep the connection alive.
    pub fn closed(&self) -> impl Future<Output = Closed> + use<> {
        ended(self.closed.clone())
    }

    /// Shuts the connection down in order: everything sent before arrives, and pending calls fail on both
    /// sides. Takes three seconds at most.
    pub async fn finish(self) {
        self.stop.ask(Closed::Ours);
        self.closed().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stop.ask(Closed::Ours);
    }
}

async fn ended(mut closed: watch::Receiver<Option<Closed>>) -> Closed {
    match closed.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or(Closed::Ours),
        Err(_) => Closed::Ours,
    }
}

/// Runs the connection to its end. A panic inside capnp-rpc ends only this connection.
async fn drive(system: RpcSystem<VatSide>, mut pump: Pump, stop: &Stop) -> Closed {
    let mut disconnect = AssertUnwindSafe(system.get_disconnector()).catch_unwind();
    let mut rpc = Box::pin(AssertUnwindSafe(system).catch_unwind());
    let why = {
        // Fused: it may have ended already because a write failed; then there is nothing to wait for below.
        let mut pumping = std::pin::pin!(pump.run().fuse());
        let mut why = tokio::select! {
            biased;
            ended = &mut rpc => Some(reason(ended)),
            _ = &mut pumping => timeout(LAST_WORDS, &mut rpc).await.ok().map(reason),
            () = stop.asked.notified() => None,
        };
        if why.is_none() {
            // Pending calls fail now; if `rpc` were just dropped, they would wait forever.
            why = Some(stop.verdict());
            let ending = async {
                let _ = futures::join!(&mut disconnect, &mut rpc);
            };
            let patience = if why == Some(Closed::Silent) { GIVE_UP } else { FINISH };
            let _ = timeout(patience, async {
                tokio::select! { biased; () = ending => (), _ = &mut pumping => () }
            })
            .await;
        }
        why
    };
    drop(rpc);
    if why == Some(Closed::Silent) {
        return Closed::Silent;
    }
    let _ = timeout(FINISH, pump.run()).await;
    let _ = pump.finish(FINISH).await;
    why.unwrap_or(Closed::Ours)
}

fn reason(ended: std::thread::Result<Result<(), capnp::Error>>) -> Closed {
    match ended {
        Ok(Ok(())) => Closed::Theirs,
        Ok(Err(error)) => Closed::Broken(error.to_string()),
        Err(panic) => Closed::Broken(format!("internal error: {}", said(&*panic))),
    }
}

/// Runs a server's method so that a panic in it fails only this call: its caller gets an exception; other
/// calls and the connection continue.
///
/// # Errors
/// The method's, or a failure whose text begins with `INTERNAL`.
pub async fn contained<T>(method: impl Future<Output = Result<T, capnp::Error>>) -> Result<T, capnp::Error> {
    match AssertUnwindSafe(method).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let said = said(&*panic);
            tracing::error!(panic = said, "a method panicked");
            Err(capnp::Error::failed(format!("INTERNAL: the other side panicked: {said}")))
        }
    }
}

/// Returns the message of a panic.
pub fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(said), _) => said,
        (_, Some(said)) => said,
        _ => "panic",
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::schema::gpmd_capnp::index_subscriber;
    use super::*;

    /// Answers even revisions, waits forever on 1, panics on 3, and counts the requests.
    #[derive(Default)]
    struct Listener {
        heard: Rc<Cell<u64>>,
    }

    impl index_subscriber::Server for Listener {
        async fn changed(
            self: Rc<Self>,
            params: index_subscriber::ChangedParams,
            _: index_subscriber::ChangedResults,
        ) -> Result<(), capnp::Error> {
            contained(async move {
                let revision = params.get()?.get_revision();
                self.heard.set(self.heard.get() + 1);
                match revision {
                    1 => std::future::pending().await,
                    3 => panic!("three"),
                    _ => Ok(()),
                }
            })
            .await
        }
    }

    fn run<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, future)
    }

    async fn call(client: &index_subscriber::Client, revision: u64) -> Result<(), capnp::Error> {
        let mut request = client.changed_request();
        request.get().set_revision(revision);
        timeout(Duration::from_secs(5), request.send().promise).await.expect("nothing hangs").map(|_| ())
    }

    fn start(limits: MessageLimits) -> (Connection, Connection, Rc<Cell<u64>>) {
        let (near, far) = Transport::pair(1 << 16);
        let listener = Listener::default();
        let heard = listener.heard.clone();
        let offered: index_subscriber::Client = capnp_rpc::new_client(listener);
        let server = Connection::start(far, Side::Accepted, limits, Some(offered.client));
        (Connection::start(near, Side::Dialled, limits, None), server, heard)
    }

    #[test]
    fn a_panic_fails_one_call() {
        run(async {
            let (client, _server, heard) = start(MessageLimits::CONTROL);
            let listener = client.first();
            let error = call(&listener, 3).await.unwrap_err();
            assert!(error.to_string().contains("three"), "{error}");
            call(&listener, 2).await.unwrap();
            assert_eq!(heard.get(), 2);
        });
    }

    #[test]
    fn a_lost_peer_fails_pending_calls() {
        run(async {
            let (client, server, _) = start(MessageLimits::CONTROL);
            let listener = client.first();
            let dropping = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(server);
            };
            let (error, ()) = tokio::join!(call(&listener, 1), dropping);
            assert_eq!(error.unwrap_err().kind, capnp::ErrorKind::Disconnected);
            assert_eq!(client.closed().await, Closed::Theirs);
        });
    }

    #[test]
    fn our_own_end_fails_pending_calls_and_reaches_the_peer() {
        run(async {
            let (client, server, _) = start(MessageLimits::CONTROL);
            let listener = client.first();
            let closed = client.closed();
            let finishing = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                client.finish().await;
            };
            let (error, ()) = tokio::join!(call(&listener, 1), finishing);
            assert_eq!(error.unwrap_err().kind, capnp::ErrorKind::Disconnected);
            assert_eq!(closed.await, Closed::Ours);
            assert_eq!(server.closed().await, Closed::Theirs);
        });
    }

    #[test]
    fn answers_sent_before_an_orderly_end_arrive() {
        run(async {
            let (client, server, heard) = start(MessageLimits::CONTROL);
            let listener = client.first::<index_subscriber::Client>();
            let calls = (0..10_000).map(|_| listener.changed_request().send().promise);
            let calls = futures::future::join_all(calls);
            let finishing = async {
                while heard.get() < 10_000 {
                    tokio::task::yield_now().await;
                }
                server.finish().await;
            };
            let (answers, ()) = tokio::join!(calls, finishing);
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10_000);
            assert_eq!(client.closed().await, Closed::Theirs);
        });
    }

    #[test]
    fn a_message_over_the_limit_ends_its_connection() {
        run(async {
            let (client, server, _) = start(MessageLimits { words: 1000, nesting: 32 });
            let listener = client.first::<index_subscriber::Client>();
            let mut request = listener.goodbye_request();
            request.get().set_reason("x".repeat(100_000));
            assert!(request.send().promise.await.is_err());
            assert!(matches!(server.closed().await, Closed::Broken(_)));
        });
    }
}
