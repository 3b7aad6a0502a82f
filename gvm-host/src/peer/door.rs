//! How two nodes meet: greeting, the accept policy, and the exchange of sessions.
//!
//! In: a connection, dialled or accepted. Out: a [`Peer`] on both sides, or a denial. Before the policy
//! has said yes the other side holds nothing but the door. Must not know: how gpmd found the address.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use capnp::Error as Failure;
use gvm_wire::node_capnp::{connect_door, connected, node_door, node_greeting, session, streams};
use tokio::runtime::Handle as Workers;

use super::accept::Accept;
use super::bulk::{Bulk, Shelf, Tickets};
use super::calls::{Calls, StreamsServer};
use super::session::SessionServer;
use crate::error::{Code, Error, Result};
use crate::home::HomeId;
use crate::id::{Life, NodeInfo};
use crate::limits;
use crate::node::live::Instances;
use crate::node::runner::Runner;
use crate::wire;
use crate::wire::bulk::{Purpose, purpose};
use crate::wire::hello::Hello;
use crate::wire::rpc::{Connection, Gate, Limits, Side, contained};
use crate::wire::tls::Tls;
use crate::wire::transport::{Transport, dial, dial_words};

/// How long the other side may take for one step of meeting.
const STEP: Duration = Duration::from_secs(5);

/// What every connection of a node shares.
pub struct Ours {
    pub home: HomeId,
    pub tls: Tls,
    pub me: NodeInfo,
    pub accept: Accept,
    pub runner: Runner,
    pub workers: Workers,
    pub tickets: Rc<Tickets>,
    /// Told of each peer that was accepted here.
    pub joined: Box<dyn Fn(Rc<Peer>)>,
}

/// A connected node. Belongs to the RPC thread.
pub struct Peer {
    pub info: NodeInfo,
    pub session: session::Client,
    pub calls: Calls,
    pub bulk: Rc<Bulk>,
    connection: RefCell<Option<Connection>>,
    farewell: Rc<Farewell>,
}

type Hear = Box<dyn FnOnce(String)>;

/// How the other side leaves.
#[derive(Default)]
struct Farewell {
    /// The last word of either side.
    said: RefCell<Option<String>>,
    /// Told of its goodbye, before that is answered.
    hear: RefCell<Option<Hear>>,
}

impl Farewell {
    fn heard(&self, reason: String) {
        self.said.borrow_mut().get_or_insert(reason.clone());
        let hear = self.hear.borrow_mut().take();
        if let Some(hear) = hear {
            hear(reason);
        }
    }
}

impl Peer {
    /// Has `hear` told when the other side says goodbye, before it is answered: once its own request to
    /// leave is done, this side knows.
    pub fn on_goodbye(&self, hear: impl FnOnce(String) + 'static) {
        self.farewell.hear.replace(Some(Box::new(hear)));
    }

    /// Waits until the connection has ended; says why.
    pub fn closed(&self) -> impl Future<Output = String> + use<> {
        let closed = self.connection.borrow().as_ref().map(Connection::closed);
        let farewell = self.farewell.clone();
        async move {
            if let Some(closed) = closed {
                closed.await;
            }
            farewell.said.borrow_mut().take().unwrap_or_else(|| "connection lost".to_owned())
        }
    }

    /// Says goodbye and ends the connection in order, within two seconds.
    pub async fn leave(&self, reason: &str) {
        self.farewell.said.borrow_mut().get_or_insert_with(|| reason.to_owned());
        let mut request = self.session.goodbye_request();
        request.get().set_reason(reason);
        let _ = tokio::time::timeout(Duration::from_secs(1), request.send().promise).await;
        let connection = self.connection.borrow_mut().take();
        if let Some(connection) = connection {
            connection.finish().await;
        }
    }
}

impl Ours {
    fn life(&self) -> Life {
        Life { id: self.me.id, incarnation: self.me.incarnation }
    }

    fn hello(&self) -> Hello {
        Hello { node: Some(self.me.clone()), ..Hello::of(self.home) }
    }

    /// The session that a peer gets of this node.
    fn session(&self, streams: streams::Client, bulk: Rc<Bulk>, farewell: Rc<Farewell>) -> session::Client {
        capnp_rpc::new_client(SessionServer {
            runner: self.runner.clone(),
            held: Instances::default(),
            workers: self.workers.clone(),
            streams,
            bulk,
            gate: Gate::new(limits::CALLS_PER_SESSION),
            goodbye: Box::new(move |reason| {
                farewell.heard(reason);
            }),
        })
    }

    /// What a session with this node, whose streams these are, has of large values.
    fn bulk(&self, theirs: streams::Client, other: &NodeInfo) -> Rc<Bulk> {
        let (shelf, tickets) = (Arc::<Shelf>::default(), self.tickets.clone());
        let (tls, workers) = (self.tls.clone(), self.workers.clone());
        Rc::new(Bulk::new(shelf, tickets, theirs, other.clone(), tls, workers))
    }

    /// Dials a node and asks to be connected.
    ///
    /// # Errors
    /// `NODE_DOWN` where nobody answers, `CONNECTION_DENIED`, `VERSION_MISMATCH`, `AUTH_FAILED`.
    pub async fn dial(&self, node: &NodeInfo) -> Result<Peer> {
        let name = &node.name;
        let transport = reach(node, &self.tls).await?;
        let connection = Connection::start(transport, Side::Dialled, Limits::SESSION, None);
        let meeting = self.meet(&connection, node);
        let met = tokio::time::timeout(STEP, meeting).await.unwrap_or_else(|_| {
            Err(Error::new(
                Code::NodeDown,
                format!("node `{name}` did not answer within {} s", STEP.as_secs()),
            ))
        });
        match met {
            Ok((session, calls, bulk, farewell)) => {
                watch(&connection, &session);
                let connection = RefCell::new(Some(connection));
                Ok(Peer { info: node.clone(), session, calls, bulk, connection, farewell })
            }
            Err(error) => {
                connection.finish().await;
                Err(error)
            }
        }
    }

    async fn meet(
        &self,
        connection: &Connection,
        node: &NodeInfo,
    ) -> Result<(session::Client, Calls, Rc<Bulk>, Rc<Farewell>)> {
        let noun = format!("node `{}`", node.name);
        let gone = |error: Failure| wire::error::from_capnp(error, &noun, Code::NodeDown);
        let unknown =
            |_| Error::new(Code::VersionMismatch, format!("{noun} answered what this version does not know"));
        let mut greet = connection.first::<node_door::Client>().greet_request();
        let expected = Life { id: node.id, incarnation: node.incarnation };
        let hello = Hello { expected: Some(expected), ..self.hello() };
        wire::hello::write(&hello, greet.get().init_hello());
        let answer = greet.send().promise.await.map_err(gone)?;
        let door = match answer.get().map_err(gone)?.which().map_err(unknown)? {
            node_greeting::Ok(ok) => {
                wire::hello::read(ok.get_hello().map_err(gone)?)?.admit(self.home)?;
                ok.get_door().map_err(gone)?
            }
            node_greeting::Error(error) => return Err(wire::error::read(error.map_err(gone)?)),
        };
        let calls = Calls::default();
        let farewell = Rc::<Farewell>::default();
        // Our session writes output to the peer's streams, which come with its answer.
        let (theirs, promised) = promised_streams();
        let mut ask = door.connect_request();
        let bulk = self.bulk(promised.clone(), node);
        ask.get().set_session(self.session(promised, bulk.clone(), farewell.clone()));
        ask.get().set_streams(our_streams(&calls, &bulk));
        let answer = ask.send().promise.await.map_err(gone)?;
        match answer.get().map_err(gone)?.which().map_err(unknown)? {
            connected::Ok(ok) => {
                let _ = theirs.send(ok.get_streams().map_err(gone)?);
                Ok((ok.get_session().map_err(gone)?, calls, bulk, farewell))
            }
            connected::Error(error) => Err(wire::error::read(error.map_err(gone)?)),
        }
    }

    /// Takes a connection that somebody dialled. Returns when it has become a peer's or has ended.
    pub async fn take(self: &Rc<Self>, transport: Transport) {
        let transport = match tokio::time::timeout(STEP, purpose(transport)).await {
            Ok(Ok(Purpose::Calls(transport))) => transport,
            Ok(Ok(Purpose::Bulk(ticket, transport))) => return self.tickets.take(ticket, transport),
            Ok(Err(_)) | Err(_) => return,
        };
        let held = Rc::new(RefCell::new(None));
        let met = Rc::new(tokio::sync::Notify::new());
        let door = Door { ours: self.clone(), connection: Rc::downgrade(&held), met: met.clone() };
        let door: node_door::Client = capnp_rpc::new_client(door);
        let connection = Connection::start(transport, Side::Accepted, Limits::SESSION, Some(door.client));
        let closed = connection.closed();
        held.replace(Some(connection));
        // Whoever has not been accepted by then is cut off: dropping `held` ends the connection.
        let _ = tokio::time::timeout(STEP, async {
            tokio::select! { _ = closed => (), () = met.notified() => () }
        })
        .await;
    }
}

/// Dials a node's places one after the other.
///
/// # Errors
/// `NODE_DOWN` where none answers, `AUTH_FAILED` where who answers is not of this home.
pub async fn reach(node: &NodeInfo, tls: &Tls) -> Result<Transport> {
    let (mut tried, mut code) = (Vec::new(), Code::NodeDown);
    for address in &node.addresses {
        match dial(&address.parse()?, Some(tls)).await {
            Ok(transport) => return Ok(transport),
            Err(error) => {
                if error.kind() == std::io::ErrorKind::PermissionDenied {
                    code = Code::AuthFailed;
                }
                tried.push(format!("{address} ({})", dial_words(&error)));
            }
        }
    }
    Err(Error::new(code, format!("node `{}` does not answer at {}", node.name, tried.join(", nor at "))))
}

/// Finds out when a peer goes silent.
fn watch(connection: &Connection, session: &session::Client) {
    let session = session.clone();
    connection.watch(move || session.ping_request().send().promise);
}

/// The capability by which a peer reaches the streams of our calls.
fn our_streams(calls: &Calls, bulk: &Rc<Bulk>) -> streams::Client {
    let bulk = bulk.clone();
    capnp_rpc::new_client(StreamsServer { calls: calls.clone(), ticket: Box::new(move || bulk.ticket()) })
}

/// A streams capability whose other end is not known yet.
fn promised_streams() -> (tokio::sync::oneshot::Sender<streams::Client>, streams::Client) {
    let (sender, receiver) = tokio::sync::oneshot::channel::<streams::Client>();
    let client = capnp_rpc::new_future_client(async move {
        receiver.await.map_err(|_| Failure::disconnected("the connection was not made".into()))
    });
    (sender, client)
}

/// What a node's address offers to whoever dials it.
struct Door {
    ours: Rc<Ours>,
    connection: Weak<RefCell<Option<Connection>>>,
    met: Rc<tokio::sync::Notify>,
}

impl node_door::Server for Door {
    async fn greet(
        self: Rc<Self>,
        params: node_door::GreetParams,
        mut results: node_door::GreetResults,
    ) -> Result<(), Failure> {
        let hello = wire::hello::read(params.get()?.get_hello()?);
        let asking = hello.and_then(|hello| {
            hello.admit(self.ours.home)?;
            hello.meant_for(self.ours.life())?;
            hello.node.ok_or_else(|| Error::new(Code::AuthFailed, "only nodes connect to a node"))
        });
        match asking {
            Ok(asking) => {
                let mut ok = results.get().init_ok();
                wire::hello::write(&self.ours.hello(), ok.reborrow().init_hello());
                ok.set_door(capnp_rpc::new_client(AskingDoor { door: self.clone(), asking }));
            }
            Err(error) => wire::error::write(&error, results.get().init_error()),
        }
        Ok(())
    }
}

/// What a node that has greeted may do: ask to be connected.
struct AskingDoor {
    door: Rc<Door>,
    asking: NodeInfo,
}

impl connect_door::Server for AskingDoor {
    async fn connect(
        self: Rc<Self>,
        params: connect_door::ConnectParams,
        mut results: connect_door::ConnectResults,
    ) -> Result<(), Failure> {
        contained(async move {
            let ours = &self.door.ours;
            if let Err(denied) = ours.accept.judge(&self.asking.name, &ours.me.name) {
                wire::error::write(&denied, results.get().init_error());
                return Ok(());
            }
            let params = params.get()?;
            let (session, streams) = (params.get_session()?, params.get_streams()?);
            let held = self.door.connection.upgrade().and_then(|held| held.borrow_mut().take());
            let Some(connection) = held else {
                return Err(Failure::failed("this connection has been used".into()));
            };
            let calls = Calls::default();
            let farewell = Rc::<Farewell>::default();
            let mut ok = results.get().init_ok();
            let bulk = ours.bulk(streams.clone(), &self.asking);
            ok.set_session(ours.session(streams, bulk.clone(), farewell.clone()));
            ok.set_streams(our_streams(&calls, &bulk));
            self.door.met.notify_one();
            watch(&connection, &session);
            (ours.joined)(Rc::new(Peer {
                info: self.asking.clone(),
                session,
                calls,
                bulk,
                connection: RefCell::new(Some(connection)),
                farewell,
            }));
            Ok(())
        })
        .await
    }
}
