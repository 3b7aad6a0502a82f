//! How two nodes connect: greeting, accept policy, exchange of sessions.
//!
//! In: a node to dial, or an accepted connection. Out: a [`Peer`] on both sides, or a denial. Each side proves who it is
//! before anything is decided. Until the policy accepts the other side, that side can only greet and ask to connect. Must
//! not know: how gpmd found the address.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use capnp::Error as Failure;
use gvm_wire::node_capnp::{connect_door, connected, node_door, node_greeting, session, streams};
use tokio::runtime::Handle as Workers;
use tokio_util::sync::CancellationToken;

use super::accept::{Asking, Gatekeeper, Verdict, denied};
use super::bulk::Bulk;
use super::callee::Callee;
use super::calls::{Calls, StreamsServer};
use super::connected::{Farewell, Given, Peer};
use super::dialling::{best_first, find_out_why, reach};
use super::line::Line;
use super::port::Port;
use super::questions::{ANSWER, Questions};
use super::service::Serve;
use super::session::SessionServer;
use super::shelf::Shelf;
use super::term::{Running, Term};
use super::tickets::Tickets;
use crate::base::device::NodeName;
use crate::base::error::{Code, Error, Result};
use crate::base::home::HomeId;
use crate::base::limits;
use crate::base::node::{Life, NodeInfo};
use crate::call::rights::{Rights, Rule, SessionRights};
use crate::trust::certificate::{NodeIdentity, Proven, check};
use crate::trust::devices::Devices;
use crate::trust::greeting::{Greeting, Part, Said, nonce};
use crate::trust::identity::Identity;
use crate::trust::key::{PublicKey, Signature};
use crate::wire;
use crate::wire::bulk::{Purpose, purpose};
use crate::wire::gate::Gate;
use crate::wire::hello::Hello;
use crate::wire::rpc::{Connection, MessageLimits, Side, contained};
use crate::wire::tls::Tls;
use crate::wire::transport::{Transport, handed};

/// How long the other side may take for one step of the handshake.
const STEP: Duration = Duration::from_secs(5);

/// How long a connected node may be silent before another life of it takes its name. Less than [`STEP`], which the other
/// life waits.
const SILENCE: Duration = Duration::from_secs(2);

/// What all connections of a node share.
pub struct Ours {
    pub home: HomeId,
    pub tls: Tls,
    pub me: NodeInfo,
    pub gatekeeper: RefCell<Gatekeeper>,
    pub questions: Questions,
    /// What peers may call; no rules allow everything.
    pub rules: Vec<Rule>,
    /// How long the sessions of peers last; none for no time limit.
    pub session_time: Option<Duration>,
    /// Counts the calls that run for peers and on them.
    pub running: Running,
    /// Runs the calls of each session.
    pub serve: Box<Serve>,
    pub workers: Workers,
    pub tickets: Rc<Tickets>,
    /// Called with each peer that was accepted here.
    pub joined: Box<dyn Fn(Rc<Peer>)>,
    /// Proves to other nodes who this one is.
    pub identity: Identity,
    /// The devices whose nodes may prove who they are.
    pub devices: Devices,
    /// Returns the connections to the node with this name.
    pub connected: Box<Connected>,
    /// Asks gpmd for a node.
    pub find: Box<Find>,
}

/// Returns the connections to the node with this name.
pub type Connected = dyn Fn(&NodeName) -> Vec<Rc<Peer>>;

/// Asks gpmd for the node with this name.
pub type Find = dyn Fn(NodeName) -> Pin<Box<dyn Future<Output = Result<NodeInfo>>>>;

impl Ours {
    /// Returns whether this identity is that of the node.
    fn is_node(&self, proven: &NodeIdentity, node: &NodeInfo) -> bool {
        let devices = self.devices.now();
        let device =
            node.device.map_or_else(|| devices.is_own(&proven.device), |device| proven.device == device);
        device && proven.name.as_str() == node.name.bare() && proven.life == node.life()
    }

    fn life(&self) -> Life {
        Life { id: self.me.id, incarnation: self.me.incarnation }
    }

    fn hello(&self) -> Hello {
        Hello { node: Some(self.me.clone()), ..Hello::of(self.home) }
    }

    /// Creates a peer's session on this node, with its rights and the means to end it.
    fn session(
        &self,
        peer: &NodeInfo,
        streams: streams::Client,
        bulk: Rc<Bulk>,
        farewell: Rc<Farewell>,
    ) -> (session::Client, SessionRights, Given) {
        let rights = Rights::of(&self.rules, &peer.name, &self.me.name, self.devices.now().own_name());
        let grant = SessionRights { calls: rights.patterns(), expires_ms: self.session_time.and_then(in_ms) };
        let term = Term::new(self.me.name.clone(), self.running.clone());
        let service = (self.serve)(rights, peer.device);
        let given = Given { term: term.clone(), service: service.clone(), lasts: self.session_time };
        let session = capnp_rpc::new_client(SessionServer {
            callee: Arc::new(Callee {
                service,
                term,
                workers: self.workers.clone(),
                streams: Port::open(streams),
                gate: Gate::new(limits::CALLS_PER_SESSION),
                channels: Gate::new(limits::CHANNELS_PER_SESSION),
                arriving: Gate::new(limits::ARRIVING as usize),
                kept: Gate::new(limits::KEPT as usize),
                gone: CancellationToken::new(),
            }),
            bulk,
            tickets: self.tickets.clone(),
            goodbye: Box::new(move |reason| {
                farewell.heard(reason);
            }),
        });
        (session, grant, given)
    }

    /// Decides whether a node may connect.
    fn judge(&self, asking: &NodeInfo) -> Verdict {
        // This node may have dialled it at the same time.
        if (self.connected)(&asking.name).iter().any(|peer| peer.info.to_ref() == asking.to_ref()) {
            return Verdict::Yes;
        }
        let devices = self.devices.now();
        let guest = asking.device.is_some_and(|device| devices.is_guest(&device));
        let asking = Asking { name: &asking.name, guest };
        self.gatekeeper.borrow().judge(&asking, &self.me.name, devices.own_name())
    }

    /// Ends the connection to another life of the node with this name if it is dead. A live one keeps the name: nothing
    /// displaces it.
    async fn make_room(&self, asking: &NodeInfo) -> Result<()> {
        let mut peers = (self.connected)(&asking.name);
        peers.retain(|peer| peer.info.to_ref() != asking.to_ref());
        let pings = peers.iter().map(|peer| peer.session.ping_request().send().promise);
        let answers =
            futures::future::join_all(pings.map(|answer| tokio::time::timeout(SILENCE, answer))).await;
        if answers.iter().any(|answer| matches!(answer, Ok(Ok(_)))) {
            let message = format!("another life of `{}` is connected to `{}`", asking.name, self.me.name);
            return Err(
                denied(message).with_help("end the other process, or choose another name with `--name`")
            );
        }
        let ended: Vec<_> = peers.iter().map(|peer| peer.closed()).collect();
        peers.iter().for_each(|peer| peer.give_up());
        futures::future::join_all(ended).await;
        Ok(())
    }

    /// Checks a certificate that a node shows. The error is a reason in words.
    fn certified(&self, certificate: &[u8]) -> std::result::Result<Proven, String> {
        if certificate.is_empty() {
            return Err("it has no certificate".into());
        }
        let devices = self.devices.now();
        check(certificate, |device| devices.key(device), SystemTime::now())
            .map_err(|why| format!("its certificate {why}"))
    }

    /// Creates the large values of a session with `other`; `theirs` are its streams.
    fn bulk(&self, theirs: streams::Client, other: &NodeInfo) -> Rc<Bulk> {
        let (shelf, tickets) = (Arc::<Shelf>::default(), self.tickets.clone());
        let (tls, workers) = (self.tls.clone(), self.workers.clone());
        Rc::new(Bulk::new(shelf, tickets, theirs, other.clone(), tls, workers))
    }

    /// Dials a node and asks to connect. Calls `waiting` if a person must decide there, which may take a
    /// minute. Dropping the future cancels the request.
    ///
    /// # Errors
    /// `NODE_DOWN` if the node does not answer, `CONNECTION_DENIED`, `VERSION_MISMATCH`, `AUTH_FAILED`.
    pub async fn dial(&self, node: &NodeInfo, waiting: impl Fn()) -> Result<Peer> {
        self.make_room(node).await?;
        let (transport, at) = reach(node, &self.tls).await?;
        let node = &best_first(node, &at);
        let binding = transport.binding()?;
        let connection = Connection::start(transport, Side::Dialled, MessageLimits::SESSION, None);
        match self.meet(&connection, node, binding, waiting).await {
            Ok(met) => {
                let Met { session, calls, bulk, grant, given, farewell } = met;
                watch(&connection, &session);
                let connection = RefCell::new(Some(connection));
                let line = Line::new(node.clone(), calls.clone(), session.clone(), self.tls.clone());
                Ok(Peer {
                    info: node.clone(),
                    session,
                    calls,
                    line,
                    bulk,
                    grant,
                    given,
                    connection,
                    farewell,
                })
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
        binding: Vec<u8>,
        waiting: impl Fn(),
    ) -> Result<Met> {
        let noun = format!("node `{}`", node.name);
        let gone = |error: Failure| wire::error::from_capnp(error, &noun, Code::NodeDown);
        let unknown = |_| {
            let sentence = format!("{noun} sent an answer that this version does not know");
            Error::new(Code::VersionMismatch, sentence).with_help(wire::error::SAME_RELEASE)
        };
        let mut greet = connection.first::<node_door::Client>().greet_request();
        let expected = Life { id: node.id, incarnation: node.incarnation };
        let hello = Hello { expected: Some(expected), ..self.hello() };
        wire::hello::write(&hello, greet.get().init_hello());
        let card = self.identity.card()?;
        let asks = Said { certificate: card.certificate.to_vec(), nonce: nonce()? };
        greet.get().set_certificate(&asks.certificate);
        greet.get().set_nonce(&asks.nonce);
        let answer = in_time(node, STEP, greet.send().promise).await?.map_err(gone)?;
        let (greeted, waits, answers, signed) = match answer.get().map_err(gone)?.which().map_err(unknown)? {
            node_greeting::Ok(ok) => {
                wire::hello::read(ok.get_hello().map_err(gone)?)?;
                let answers = said(ok.get_certificate(), ok.get_nonce()).map_err(gone)?;
                let signed = ok.get_signature().map_err(gone)?.to_vec();
                (ok.get_door().map_err(gone)?, ok.get_asks(), answers, signed)
            }
            node_greeting::Error(error) => return Err(wire::error::read(error.map_err(gone)?)),
        };
        let greeting = Greeting { binding, asks, answers };
        let proven = self.certified(&greeting.answers.certificate).and_then(|proven| {
            match greeting.is_signed(Part::Answers, &proven.key, &signed) {
                true => Ok(proven.node),
                false => Err("it did not sign the greeting".to_owned()),
            }
        });
        match proven {
            Ok(proven) if self.is_node(&proven, node) => {}
            Ok(other) => {
                let name = self.devices.now().node_name(&other.name, &other.device);
                let name = name.unwrap_or_else(|| other.name.into());
                return Err(impostor(node, &format!("its certificate is that of `{name}`")));
            }
            Err(why) => return Err(impostor(node, &why)),
        }
        let calls = Calls::default();
        let farewell = Rc::<Farewell>::default();
        // Our session writes output to the peer's streams, which arrive with its answer.
        let (theirs, promised) = promised_streams();
        let mut ask = greeted.connect_request();
        let bulk = self.bulk(promised.clone(), node);
        let (session, granted, given) = self.session(node, promised, bulk.clone(), farewell.clone());
        ask.get().set_session(session);
        ask.get().set_streams(our_streams(&calls, &bulk));
        wire::grant::write(&granted, ask.get().init_grant());
        ask.get().set_signature(greeting.sign(Part::Asks, self.identity.key())?.bytes());
        let patience = if waits { ANSWER + STEP } else { STEP };
        if waits {
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

    /// Handles an accepted connection. Returns when the connection belongs to a peer or has ended.
    pub async fn take(self: &Rc<Self>, transport: Transport) {
        let known = async {
            match purpose(transport).await? {
                Purpose::Handed(stream, from) => purpose(handed(stream, from, &self.tls).await?).await,
                purpose => Ok(purpose),
            }
        };
        let transport = match tokio::time::timeout(STEP, known).await {
            Ok(Ok(Purpose::Calls(transport))) => transport,
            Ok(Ok(Purpose::Bulk(ticket, transport))) => return self.tickets.take_bulk(ticket, transport),
            Ok(Ok(Purpose::Channel(ticket, transport))) => {
                return self.tickets.take_channel(ticket, transport);
            }
            Ok(Ok(Purpose::Handed(..))) => return,
            Ok(Err(error)) => return tracing::debug!("closed a connection: {error}"),
            Err(_) => return,
        };
        let Ok(binding) = transport.binding() else { return };
        let held = Rc::new(RefCell::new(None));
        let met = Rc::new(tokio::sync::Notify::new());
        let asking = Rc::<Cell<bool>>::default();
        let greeter = Greeter {
            ours: self.clone(),
            binding,
            connection: Rc::downgrade(&held),
            met: met.clone(),
            asking: asking.clone(),
        };
        let greeter: node_door::Client = capnp_rpc::new_client(greeter);
        let connection =
            Connection::start(transport, Side::Accepted, MessageLimits::SESSION, Some(greeter.client));
        let closed = connection.closed();
        held.replace(Some(connection));
        // A node that was not accepted in time is disconnected: dropping `held` ends the connection.
        let mut ended = std::pin::pin!(async {
            tokio::select! { _ = closed => (), () = met.notified() => () }
        });
        let ended_soon = tokio::time::timeout(STEP, &mut ended).await.is_ok();
        if !ended_soon && asking.get() {
            let _ = tokio::time::timeout(ANSWER, ended).await;
        }
    }
}

/// The result of the handshake on the dialling side.
struct Met {
    session: session::Client,
    calls: Calls,
    bulk: Rc<Bulk>,
    grant: SessionRights,
    given: Given,
    farewell: Rc<Farewell>,
}

/// Limits how long the other side may take to answer.
async fn in_time<T>(node: &NodeInfo, most: Duration, answer: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(most, answer).await.map_err(|_| {
        let most = humantime::format_duration(most);
        Error::new(Code::NodeDown, format!("node `{}` did not answer within {most}", node.name))
            .with_help(find_out_why(&node.name))
    })
}

/// Returns the time this long from now, in milliseconds since 1970.
fn in_ms(time: Duration) -> Option<i64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(now.checked_add(time)?.as_millis()).ok()
}

/// Ends the connection when the peer goes silent.
fn watch(connection: &Connection, session: &session::Client) {
    let session = session.clone();
    connection.watch(move || session.ping_request().send().promise);
}

/// Creates the capability through which a peer reaches the streams of our calls.
fn our_streams(calls: &Calls, bulk: &Rc<Bulk>) -> streams::Client {
    let bulk = bulk.clone();
    capnp_rpc::new_client(StreamsServer { calls: calls.clone(), ticket: Box::new(move || bulk.ticket()) })
}

/// Returns a streams capability, and the sender that resolves it.
fn promised_streams() -> (tokio::sync::oneshot::Sender<streams::Client>, streams::Client) {
    let (sender, receiver) = tokio::sync::oneshot::channel::<streams::Client>();
    let client = capnp_rpc::new_future_client(async move {
        receiver.await.map_err(|_| Failure::disconnected("the connection was not established".into()))
    });
    (sender, client)
}

/// The first capability of an accepted connection: it only answers greetings.
struct Greeter {
    ours: Rc<Ours>,
    /// What only the two ends of the connection know.
    binding: Vec<u8>,
    connection: Weak<RefCell<Option<Connection>>>,
    met: Rc<tokio::sync::Notify>,
    /// Whether a person is being asked.
    asking: Rc<Cell<bool>>,
}

impl node_door::Server for Greeter {
    async fn greet(
        self: Rc<Self>,
        params: node_door::GreetParams,
        mut results: node_door::GreetResults,
    ) -> Result<(), Failure> {
        let asked = params.get()?;
        let asks = said(asked.get_certificate(), asked.get_nonce())?;
        let greeted = match wire::hello::read(asked.get_hello()?) {
            Ok(hello) => self.clone().greeted(hello, asks).await,
            Err(error) => Err(error),
        };
        match greeted {
            Ok((connector, signature)) => {
                let mut ok = results.get().init_ok();
                wire::hello::write(&self.ours.hello(), ok.reborrow().init_hello());
                let asks = self.ours.judge(&connector.asking) == Verdict::Ask && self.ours.questions.waits();
                ok.set_asks(asks);
                ok.set_certificate(&connector.greeting.answers.certificate);
                ok.set_nonce(&connector.greeting.answers.nonce);
                ok.set_signature(signature.bytes());
                ok.set_door(capnp_rpc::new_client(connector));
            }
            Err(error) => wire::error::write(&error, results.get().init_error()),
        }
        Ok(())
    }
}

impl Greeter {
    /// Checks who greets, and returns the capability to ask with, and the signature of this node.
    async fn greeted(self: Rc<Self>, hello: Hello, asks: Said) -> Result<(Connector, Signature)> {
        let ours = &self.ours;
        hello.meant_for(ours.life())?;
        let none = || Error::new(Code::AuthFailed, "only a node can connect to a node");
        let mut asking = hello.node.ok_or_else(none)?;
        let card = ours.identity.card()?;
        // The policy uses the name, so the name must be certified first. The signature comes with the question.
        let proven = ours.certified(&asks.certificate).map_err(|why| unverified(&asking, &why))?;
        let node = &proven.node;
        let other = Some(node.device).filter(|device| !ours.devices.now().is_own(device));
        if node.name.as_str() != asking.name.as_str() || node.life != asking.life() {
            return Err(unverified(&asking, &format!("its certificate is that of `{}`", node.name)));
        }
        if let Some(device) = other {
            let called = ours.devices.now().node_name(&node.name, &device);
            asking.name = called.ok_or_else(|| unverified(&asking, "its device is not trusted"))?;
            asking.device = other;
            // What it says of its addresses holds on its own device. Without gpmd, or if gpmd does not know the node yet,
            // it cannot be dialled from here, and calls in that direction use the connection of the session.
            asking.addresses = match (ours.find)(asking.name.clone()).await {
                Ok(known) if known.to_ref() == asking.to_ref() => known.addresses,
                Ok(_) | Err(_) => Vec::new(),
            };
            asking.address = asking.addresses.first().cloned().unwrap_or_default();
        }
        let answers = Said { certificate: card.certificate.to_vec(), nonce: nonce()? };
        let greeting = Greeting { binding: self.binding.clone(), asks, answers };
        let signature = greeting.sign(Part::Answers, ours.identity.key())?;
        Ok((Connector { greeter: self.clone(), asking, greeting, key: proven.key }, signature))
    }
}

/// Reads what the other side has sent. A nonce of another length is one that nobody has sent.
fn said(certificate: capnp::Result<&[u8]>, nonce: capnp::Result<&[u8]>) -> capnp::Result<Said> {
    Ok(Said { certificate: certificate?.to_vec(), nonce: nonce?.try_into().unwrap_or_default() })
}

/// The error for a node that dials and does not prove who it is.
fn unverified(asking: &NodeInfo, why: &str) -> Error {
    Error::new(Code::ConnectionDenied, format!("the identity of `{}` cannot be verified: {why}", asking.name))
}

/// The error for a node that answers and does not prove that it is the one that was dialled.
fn impostor(node: &NodeInfo, why: &str) -> Error {
    let message =
        format!("what answers at the address of `{}` did not prove that it is that node: {why}", node.name);
    Error::new(Code::AuthFailed, message).with_help(find_out_why(&node.name))
}

/// The capability of a node that has greeted: it can only ask to connect.
struct Connector {
    greeter: Rc<Greeter>,
    /// The node that asks, as its certificate names it.
    asking: NodeInfo,
    greeting: Greeting,
    /// The key that must have signed the greeting.
    key: PublicKey,
}

impl connect_door::Server for Connector {
    async fn connect(
        self: Rc<Self>,
        params: connect_door::ConnectParams,
        mut results: connect_door::ConnectResults,
    ) -> Result<(), Failure> {
        contained(async move {
            let ours = &self.greeter.ours;
            if !self.greeting.is_signed(Part::Asks, &self.key, params.get()?.get_signature()?) {
                let denied = unverified(&self.asking, "it did not sign the greeting");
                wire::error::write(&denied, results.get().init_error());
                return Ok(());
            }
            let accepted = match ours.judge(&self.asking) {
                Verdict::Yes => Ok(()),
                Verdict::No(denied) => Err(denied),
                Verdict::Ask => {
                    self.greeter.asking.set(true);
                    ours.questions.ask(&self.asking.name).await
                }
            };
            let accepted = match accepted {
                Ok(()) => ours.make_room(&self.asking).await,
                Err(denied) => Err(denied),
            };
            // This node may have started to shut down while a person decided.
            if let Err(denied) = accepted.and_then(|()| ours.running.begin(&ours.me.name).map(drop)) {
                wire::error::write(&denied, results.get().init_error());
                return Ok(());
            }
            let params = params.get()?;
            let (session, streams) = (params.get_session()?, params.get_streams()?);
            let held = self.greeter.connection.upgrade().and_then(|held| held.borrow_mut().take());
            let Some(connection) = held else {
                return Err(Failure::failed("this connection already belongs to a peer or has ended".into()));
            };
            let calls = Calls::default();
            let farewell = Rc::<Farewell>::default();
            let grant = wire::grant::read(params.get_grant()?)?;
            let mut ok = results.get().init_ok();
            let bulk = ours.bulk(streams.clone(), &self.asking);
            let (session_here, granted, given) =
                ours.session(&self.asking, streams, bulk.clone(), farewell.clone());
            ok.set_session(session_here);
            wire::grant::write(&granted, ok.reborrow().init_grant());
            ok.set_streams(our_streams(&calls, &bulk));
            self.greeter.met.notify_one();
            watch(&connection, &session);
            let line = Line::new(self.asking.clone(), calls.clone(), session.clone(), ours.tls.clone());
            (ours.joined)(Rc::new(Peer {
                info: self.asking.clone(),
                line,
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
