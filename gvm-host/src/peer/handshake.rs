//! How two nodes meet: greeting, the accept policy, and the exchange of sessions.
//!
//! In: a connection, dialled or accepted. Out: a [`Peer`] on both sides, or a denial. Before the policy
//! has said yes the other side holds nothing but the door. Must not know: how gpmd found the address.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use capnp::Error as Failure;
use futures::future::LocalBoxFuture;
use gvm_wire::node_capnp::{connect_door, connected, node_door, node_greeting, session, streams};
use tokio::runtime::Handle as Workers;

use super::accept::{Gatekeeper, Verdict};
use super::bulk::{Bulk, Shelf, Tickets};
use super::calls::{Calls, StreamsServer};
use super::connected::{Farewell, Given, Peer};
use super::questions::{ANSWER, Questions};
use super::service::Serve;
use super::session::SessionServer;
use super::term::{Running, Term};
use crate::base::error::{Code, Error, Result};
use crate::base::home::HomeId;
use crate::base::id::{Life, Name, NodeInfo, Secret};
use crate::base::limits;
use crate::call::rights::{Rights, Rule, SessionRights};
use crate::wire;
use crate::wire::bulk::{Purpose, purpose};
use crate::wire::gate::Gate;
use crate::wire::hello::Hello;
use crate::wire::rpc::{Connection, MessageLimits, Side, contained};
use crate::wire::tls::Tls;
use crate::wire::transport::{Transport, dial, dial_words};

/// How long the other side may take for one step of meeting.
const STEP: Duration = Duration::from_secs(5);

/// Gives a ticket for a node that is dialled.
pub type Introduce = dyn Fn(NodeInfo) -> LocalBoxFuture<'static, Option<Secret>>;

/// Holds what a node that dials says of itself against its ticket.
pub type Identify = dyn Fn(NodeInfo, Option<Secret>) -> LocalBoxFuture<'static, Result<()>>;

/// What every connection of a node shares.
pub struct Ours {
    pub home: HomeId,
    pub tls: Tls,
    pub me: NodeInfo,
    pub gatekeeper: RefCell<Gatekeeper>,
    pub questions: Questions,
    /// What peers may call; all of it where there are none.
    pub rules: Vec<Rule>,
    /// How long a session that this node gives lasts, if it ends by itself.
    pub session_time: Option<Duration>,
    /// What runs for peers and on them.
    pub running: Running,
    /// Runs the calls of each session.
    pub serve: Box<Serve>,
    pub workers: Workers,
    pub tickets: Rc<Tickets>,
    /// Told of each peer that was accepted here.
    pub joined: Box<dyn Fn(Rc<Peer>)>,
    /// gpmd's word for this node, for the one that is dialled; none while gpmd is away.
    pub introduce: Box<Introduce>,
    /// Whether a node that dials is the one that it says it is.
    pub identify: Box<Identify>,
    /// Whether this very life of a node is connected already.
    pub connected: Box<dyn Fn(&NodeInfo) -> bool>,
}

impl Ours {
    fn life(&self) -> Life {
        Life { id: self.me.id, incarnation: self.me.incarnation }
    }

    fn hello(&self) -> Hello {
        Hello { node: Some(self.me.clone()), ..Hello::of(self.home) }
    }

    /// The session that a peer gets of this node, what it may do, and what ends it.
    fn session(
        &self,
        peer: &Name,
        streams: streams::Client,
        bulk: Rc<Bulk>,
        farewell: Rc<Farewell>,
    ) -> (session::Client, SessionRights, Given) {
        let rights = Rights::of(&self.rules, peer, &self.me.name);
        let grant = SessionRights { calls: rights.patterns(), expires_ms: self.session_time.and_then(in_ms) };
        let term = Term::new(self.me.name.clone(), self.running.clone());
        let service = (self.serve)(rights);
        let given = Given { term: term.clone(), service: service.clone(), lasts: self.session_time };
        let session = capnp_rpc::new_client(SessionServer {
            service,
            term,
            workers: self.workers.clone(),
            streams,
            bulk,
            gate: Gate::new(limits::CALLS_PER_SESSION),
            goodbye: Box::new(move |reason| {
                farewell.heard(reason);
            }),
        });
        (session, grant, given)
    }

    /// Whether a node that asks may connect.
    fn judge(&self, asking: &NodeInfo) -> Verdict {
        // It may have been dialled from here at the same time.
        if (self.connected)(asking) {
            return Verdict::Yes;
        }
        self.gatekeeper.borrow().judge(&asking.name, &self.me.name)
    }

    /// What a session with this node, whose streams these are, has of large values.
    fn bulk(&self, theirs: streams::Client, other: &NodeInfo) -> Rc<Bulk> {
        let (shelf, tickets) = (Arc::<Shelf>::default(), self.tickets.clone());
        let (tls, workers) = (self.tls.clone(), self.workers.clone());
        Rc::new(Bulk::new(shelf, tickets, theirs, other.clone(), tls, workers))
    }

    /// Dials a node and asks to be connected. `waiting` is told where a person is asked there, who may take
    /// a minute. Dropping the future takes the question back.
    ///
    /// # Errors
    /// `NODE_DOWN` where nobody answers, `CONNECTION_DENIED`, `VERSION_MISMATCH`, `AUTH_FAILED`.
    pub async fn dial(&self, node: &NodeInfo, waiting: impl Fn()) -> Result<Peer> {
        let transport = reach(node, &self.tls).await?;
        let connection = Connection::start(transport, Side::Dialled, MessageLimits::SESSION, None);
        match self.meet(&connection, node, waiting).await {
            Ok(met) => {
                let Met { session, calls, bulk, grant, given, farewell } = met;
                watch(&connection, &session);
                let connection = RefCell::new(Some(connection));
                Ok(Peer { info: node.clone(), session, calls, bulk, grant, given, connection, farewell })
            }
            Err(error) => {
                connection.finish().await;
                Err(error)
            }
        }
    }

    async fn meet(&self, connection: &Connection, node: &NodeInfo, waiting: impl Fn()) -> Result<Met> {
        let noun = format!("node `{}`", node.name);
        let gone = |error: Failure| wire::error::from_capnp(error, &noun, Code::NodeDown);
        let unknown =
            |_| Error::new(Code::VersionMismatch, format!("{noun} answered what this version does not know"));
        let mut greet = connection.first::<node_door::Client>().greet_request();
        let expected = Life { id: node.id, incarnation: node.incarnation };
        let hello = Hello { expected: Some(expected), ..self.hello() };
        wire::hello::write(&hello, greet.get().init_hello());
        if let Some(ticket) = (self.introduce)(node.clone()).await {
            greet.get().set_ticket(ticket.bytes());
        }
        let answer = in_time(node, STEP, greet.send().promise).await?.map_err(gone)?;
        let (door, asks) = match answer.get().map_err(gone)?.which().map_err(unknown)? {
            node_greeting::Ok(ok) => {
                wire::hello::read(ok.get_hello().map_err(gone)?)?.admit(self.home)?;
                (ok.get_door().map_err(gone)?, ok.get_asks())
            }
            node_greeting::Error(error) => return Err(wire::error::read(error.map_err(gone)?)),
        };
        let calls = Calls::default();
        let farewell = Rc::<Farewell>::default();
        // Our session writes output to the peer's streams, which come with its answer.
        let (theirs, promised) = promised_streams();
        let mut ask = door.connect_request();
        let bulk = self.bulk(promised.clone(), node);
        let (session, granted, given) = self.session(&node.name, promised, bulk.clone(), farewell.clone());
        ask.get().set_session(session);
        ask.get().set_streams(our_streams(&calls, &bulk));
        wire::grant::write(&granted, ask.get().init_grant());
        let patience = if asks { ANSWER + STEP } else { STEP };
        if asks {
            waiting();
        }
        let answer = in_time(node, patience, ask.send().promise).await?.map_err(gone)?;
        match answer.get().map_err(gone)?.which().map_err(unknown)? {
            connected::Ok(ok) => {
                let _ = theirs.send(ok.get_streams().map_err(gone)?);
                let grant = ok.get_grant().and_then(wire::grant::read).map_err(gone)?;
                let session = ok.get_session().map_err(gone)?;
                Ok(Met { session, calls, bulk, grant, given, farewell })
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
        let asking = Rc::<Cell<bool>>::default();
        let door = Door {
            ours: self.clone(),
            connection: Rc::downgrade(&held),
            met: met.clone(),
            asking: asking.clone(),
        };
        let door: node_door::Client = capnp_rpc::new_client(door);
        let connection =
            Connection::start(transport, Side::Accepted, MessageLimits::SESSION, Some(door.client));
        let closed = connection.closed();
        held.replace(Some(connection));
        // Whoever has not been accepted by then is cut off: dropping `held` ends the connection.
        let mut ended = std::pin::pin!(async {
            tokio::select! { _ = closed => (), () = met.notified() => () }
        });
        let ended_soon = tokio::time::timeout(STEP, &mut ended).await.is_ok();
        if !ended_soon && asking.get() {
            let _ = tokio::time::timeout(ANSWER, ended).await;
        }
    }
}

/// What meeting came to, on the side that asked.
struct Met {
    session: session::Client,
    calls: Calls,
    bulk: Rc<Bulk>,
    grant: SessionRights,
    given: Given,
    farewell: Rc<Farewell>,
}

/// Bounds how long the other side may take.
async fn in_time<T>(node: &NodeInfo, most: Duration, answer: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(most, answer).await.map_err(|_| {
        let most = humantime::format_duration(most);
        Error::new(Code::NodeDown, format!("node `{}` did not answer within {most}", node.name))
    })
}

/// What the clock will say then, in milliseconds since 1970.
fn in_ms(time: Duration) -> Option<i64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(now.checked_add(time)?.as_millis()).ok()
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
    /// Whether a person is being asked.
    asking: Rc<Cell<bool>>,
}

impl node_door::Server for Door {
    async fn greet(
        self: Rc<Self>,
        params: node_door::GreetParams,
        mut results: node_door::GreetResults,
    ) -> Result<(), Failure> {
        let asked = params.get()?;
        let ticket = Secret::read(asked.get_ticket()?);
        let hello = wire::hello::read(asked.get_hello()?);
        let asking = hello.and_then(|hello| {
            hello.admit(self.ours.home)?;
            hello.meant_for(self.ours.life())?;
            hello.node.ok_or_else(|| Error::new(Code::AuthFailed, "only nodes connect to a node"))
        });
        let identified = match asking {
            // What it says of itself is judged by its name from here on.
            Ok(asking) => (self.ours.identify)(asking.clone(), ticket).await.map(|()| asking),
            refused => refused,
        };
        match identified {
            Ok(asking) => {
                let mut ok = results.get().init_ok();
                wire::hello::write(&self.ours.hello(), ok.reborrow().init_hello());
                ok.set_asks(self.ours.judge(&asking) == Verdict::Ask && self.ours.questions.waits());
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
            let accepted = match ours.judge(&self.asking) {
                Verdict::Yes => Ok(()),
                Verdict::No(denied) => Err(denied),
                Verdict::Ask => {
                    self.door.asking.set(true);
                    ours.questions.ask(&self.asking.name).await
                }
            };
            // The node may have begun to leave while a person thought about it.
            if let Err(denied) = accepted.and_then(|()| ours.running.begin(&ours.me.name).map(drop)) {
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
            let grant = wire::grant::read(params.get_grant()?)?;
            let mut ok = results.get().init_ok();
            let bulk = ours.bulk(streams.clone(), &self.asking);
            let (session_here, granted, given) =
                ours.session(&self.asking.name, streams, bulk.clone(), farewell.clone());
            ok.set_session(session_here);
            wire::grant::write(&granted, ok.reborrow().init_grant());
            ok.set_streams(our_streams(&calls, &bulk));
            self.door.met.notify_one();
            watch(&connection, &session);
            (ours.joined)(Rc::new(Peer {
                info: self.asking.clone(),
                session,
                calls,
                bulk,
                grant,
                given,
                connection: RefCell::new(Some(connection)),
                farewell,
            }));
            Ok(())
        })
        .await
    }
}
