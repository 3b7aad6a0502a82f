//! The node's own thread: its listeners, its registration, its peers.
//!
//! In: requests from the handle, connections from other nodes, events from gpmd. Out: replies, events. Must
//! not know: who uses the handle. Everything of capnp stays on this thread.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle as Workers;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

use super::Config;
use super::joined::{Met, join};
use super::lines::Lines;
use super::runner::Runner;
use super::served::Served;
use crate::base::device::{DeviceId, NodeName};
use crate::base::error::{Code, Error, Result};
use crate::base::event::Event;
use crate::base::id::{Hash, Name};
use crate::base::limits::{self, Limits};
use crate::base::near;
use crate::base::node::{Applicant, Life, NodeInfo};
use crate::base::value::FuncType;
use crate::call::rights::SessionRights;
use crate::call::stdio::Stdio;
use crate::call::{Call, Outcome, Target};
use crate::gpmd::link::{self, Link, OtherModule};
use crate::gpmd::route::Route;
use crate::node::live::Directory;
use crate::peer::accept::Gatekeeper;
use crate::peer::connected::Peer;
use crate::peer::handshake::Ours;
use crate::peer::questions::{Answerers, Questions};
use crate::peer::remote;
use crate::peer::table::Table;
use crate::peer::term::{End, Running, Term};
use crate::trust::devices::Devices;
use crate::trust::identity::Identity;
use crate::wire::gate::Gate;
use crate::wire::tls::Tls;
use crate::wire::transport::{Listener, Transport};

/// How long to wait for a call on another node after its time limit.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long running calls may take to end when the node is shut down. A user would not wait longer.
const FINISH: Duration = Duration::from_secs(5);

/// How long the peers may take to answer the goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long to reconnect to a node whose connection was lost, and the pauses between attempts.
const RETURN: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// The most lost connections that wait to be reconnected. Beyond it, the user must connect again.
const RETURNING: usize = 256;

/// The most connections that are not accepted yet.
const STRANGERS: usize = 64;

/// The parts that the thread starts with.
pub struct Parts {
    pub config: Config,
    pub runner: Runner,
    /// The instances that the users of this node hold.
    pub directory: Directory,
    pub events: broadcast::Sender<Event>,
    pub answerers: Answerers,
    pub workers: Workers,
    pub lines: Lines,
    pub devices: Devices,
}

/// A request of the handle.
pub enum Message {
    Discover(oneshot::Sender<Result<Vec<NodeInfo>>>),
    Connect(NodeName, oneshot::Sender<Result<NodeName>>),
    Disconnect(NodeName, oneshot::Sender<Result<()>>),
    Revoke(NodeName, oneshot::Sender<Result<()>>),
    Rights(NodeName, oneshot::Sender<Result<SessionRights>>),
    /// The answer to the question with this id.
    Answer(u64, bool, oneshot::Sender<Result<()>>),
    List(oneshot::Sender<Vec<NodeInfo>>),
    Run {
        node: NodeName,
        call: Call,
        stdio: Stdio,
        reply: oneshot::Sender<Outcome>,
    },
    Describe {
        node: NodeName,
        target: Target,
        most: Duration,
        reply: oneshot::Sender<Result<Option<FuncType>>>,
    },
    Spawn {
        node: NodeName,
        name: Name,
        target: Target,
        limits: Limits,
        /// What it gives is to be told once the instance has a holder.
        reply: oneshot::Sender<Result<oneshot::Sender<()>>>,
    },
    OtherModules(oneshot::Sender<Result<Vec<OtherModule>>>),
    /// Asks gpmd for a module of another device.
    FindModule(Name, Option<semver::Version>, oneshot::Sender<Result<Option<Hash>>>),
    FetchModule(Hash, Option<DeviceId>, oneshot::Sender<Result<()>>),
    DropInstance {
        node: NodeName,
        name: Name,
        reply: oneshot::Sender<Result<()>>,
    },
    ShutDown(oneshot::Sender<()>),
    /// Shut down without waiting for running calls.
    Hurry,
}

/// The node as it is registered, and the term of its calls on other nodes.
type Ready = oneshot::Sender<Result<(NodeInfo, Term)>>;

/// Runs the thread. Peers are served from the moment when `complete` is sent: a call that comes before the node is complete would not
/// find what it may use.
pub fn run(parts: Parts, inbox: mpsc::Receiver<Message>, ready: Ready, complete: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(live(parts, inbox, ready, complete)),
        Err(error) => drop(ready.send(Err(Error::io("cannot start the node's runtime", error)))),
    }
}

async fn live(parts: Parts, inbox: mpsc::Receiver<Message>, ready: Ready, complete: oneshot::Receiver<()>) {
    match Actor::start(parts).await {
        Ok((actor, listeners, word)) => {
            let told = ready.send(Ok((actor.ours.me.clone(), actor.own.clone())));
            if told.is_ok() && complete.await.is_ok() {
                actor.serve(listeners, word, inbox).await;
            }
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

/// The addresses at which other nodes reach this one.
struct Listeners {
    socket: Listener,
    port: Listener,
}

impl Listeners {
    /// Returns the addresses. The socket is first: it is cheaper, and the kernel authenticates the other end.
    fn addresses(&self) -> Vec<String> {
        [&self.socket, &self.port].map(|listener| listener.address().to_string()).into()
    }

    async fn accept(&self) -> Result<Transport> {
        tokio::select! {
            accepted = self.socket.accept() => accepted,
            accepted = self.port.accept() => accepted,
        }
    }
}

struct Actor {
    ours: Rc<Ours>,
    link: Rc<Link>,
    table: Rc<RefCell<Table<Rc<Peer>>>>,
    lines: Lines,
    directory: Directory,
    events: broadcast::Sender<Event>,
    /// The term of the calls that this node runs on other nodes.
    own: Term,
    /// The nodes that this node dialled, and to which it reconnects because their connection was lost.
    returning: RefCell<HashSet<NodeName>>,
    lost: mpsc::Sender<NodeInfo>,
}

impl Actor {
    async fn start(parts: Parts) -> Result<(Rc<Actor>, Listeners, Word)> {
        let Parts { config, runner, directory, events, answerers, workers, lines, devices } = parts;
        let life = Life { id: uuid::Uuid::new_v4(), incarnation: incarnation() };
        let identity = Identity::new()?;
        let tls = Tls::of_node(identity.clone(), devices.clone())?;
        let listeners = Listeners {
            socket: Listener::bind(&config.home.node_socket(life.id, life.incarnation))?,
            port: Listener::bind_tcp(config.listen, tls.clone())?,
        };
        let applicant = Applicant {
            name: config.name.clone(),
            life,
            addresses: listeners.addresses(),
            accepts: config.accept.names(),
        };
        let reach = match config.gpmd {
            Some(address) => Route::at(address, &config.home)?,
            None => Route::nodes(&config.home),
        };
        let modules = runner.modules().clone();
        let announced = Box::new(move |index| modules.announced(index));
        let table = Rc::new(RefCell::new(Table::<Rc<Peer>>::default()));
        let expelled = {
            let (table, devices) = (table.clone(), devices.clone());
            Box::new(move || expel(&table, &devices))
        };
        let us = link::Us { applicant, identity: identity.clone(), devices: devices.clone() };
        let (link, word) =
            Link::connect(&config.home, reach, us, link::Told { announced, devices: expelled }).await?;
        let link = Rc::new(link);
        let joined = {
            let (table, events, directory) = (table.clone(), events.clone(), directory.clone());
            let lines = lines.clone();
            Box::new(move |peer| join(&table, &lines, &events, &directory, peer, Met::Accepted))
        };
        let connected = {
            let table = table.clone();
            Box::new(move |node: &NodeName| table.borrow().all(node))
        };
        let me = link.node();
        let ours = Rc::new(Ours {
            home: config.home.id(),
            tls,
            gatekeeper: RefCell::new(Gatekeeper::new(config.accept)),
            questions: Questions::new(me.name.clone(), events.clone(), answerers),
            me,
            rules: config.allow_calls,
            session_time: config.session_time,
            running: Running::default(),
            serve: Box::new(move |rights, device| {
                Arc::new(Served::new(runner.clone(), rights, device, config.foreign))
            }),
            workers,
            tickets: Rc::default(),
            joined,
            identity,
            devices,
            connected,
            find: {
                let link = link.clone();
                Box::new(move |name| {
                    let link = link.clone();
                    Box::pin(async move { link.look_up(&name).await })
                })
            },
        });
        let own = Term::new(ours.me.name.clone(), ours.running.clone());
        let (lost, gone) = mpsc::channel(RETURNING);
        let returning = RefCell::default();
        let actor = Actor { ours, link, table, lines, directory, events, own, returning, lost };
        Ok((Rc::new(actor), listeners, Word { gpmd: word, lost: gone }))
    }

    /// Serves until the handle asks for the shutdown or is dropped.
    async fn serve(self: Rc<Self>, listeners: Listeners, word: Word, mut inbox: mpsc::Receiver<Message>) {
        let Word { gpmd: mut word, mut lost } = word;
        let mut work = JoinSet::new();
        let strangers = Gate::new(STRANGERS);
        let mut farewell = Vec::new();
        loop {
            tokio::select! {
                message = inbox.recv() => match message {
                    None | Some(Message::Hurry) => break,
                    Some(Message::ShutDown(reply)) => {
                        farewell.push(reply);
                        break;
                    }
                    Some(message) => drop(work.spawn_local(self.clone().answer(message))),
                },
                accepted = listeners.accept() => match (accepted, strangers.enter("connections that wait")) {
                    (Ok(transport), Ok(pass)) => {
                        let ours = self.ours.clone();
                        work.spawn_local(async move {
                            ours.take(transport).await;
                            drop(pass);
                        });
                    }
                    (Err(error), _) | (_, Err(error)) => {
                        tracing::warn!("rejected a connection: {error}");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                },
                event = word.recv() => match event {
                    Some(event) => self.heard(event),
                    None => break,
                },
                Some(node) = lost.recv() => drop(work.spawn_local(self.clone().meet_again(node))),
                Some(ended) = work.join_next() => if let Err(error) = ended {
                    tracing::error!("a request failed: {error}");
                },
            }
        }
        // From now on, no node connects and no call begins.
        drop(listeners);
        self.ours.running.close();
        if !farewell.is_empty() {
            self.finish_running(&mut word, &mut inbox, &mut work, &mut farewell).await;
        }
        let peers = self.table.borrow_mut().clear();
        self.lines.clear();
        self.own.end(End::ShutDown);
        peers.iter().for_each(|peer| peer.end(End::ShutDown));
        let goodbyes = futures::future::join_all(peers.iter().map(|peer| peer.leave(End::ShutDown.words())));
        let _ = tokio::time::timeout(FAREWELL, goodbyes).await;
        work.shutdown().await;
        self.link.finish().await;
        for reply in farewell {
            let _ = reply.send(());
        }
    }

    /// Serves until no call runs for peers or on them, or until [`FINISH`] is over.
    async fn finish_running(
        self: &Rc<Self>,
        word: &mut mpsc::Receiver<link::Event>,
        inbox: &mut mpsc::Receiver<Message>,
        work: &mut JoinSet<()>,
        farewell: &mut Vec<oneshot::Sender<()>>,
    ) {
        let calls = self.ours.running.count();
        if calls > 0 {
            let _ = self.events.send(Event::Leaving { calls });
        }
        let mut idle = std::pin::pin!(tokio::time::timeout(FINISH, self.ours.running.idle()));
        loop {
            tokio::select! {
                _ = &mut idle => return,
                message = inbox.recv() => match message {
                    None | Some(Message::Hurry) => return,
                    Some(Message::ShutDown(reply)) => farewell.push(reply),
                    Some(message) => drop(work.spawn_local(self.clone().answer(message))),
                },
                Some(event) = word.recv() => self.heard(event),
                Some(ended) = work.join_next() => if let Err(error) = ended {
                    tracing::error!("a request failed: {error}");
                },
            }
        }
    }

    fn heard(&self, event: link::Event) {
        let event = match event {
            link::Event::Lost(_) => Event::GpmdLost,
            link::Event::Back => Event::GpmdBack,
            // One line: events have no help.
            link::Event::Refused(error) => {
                Event::GpmdRefused { why: format!("{}: {}", error.code(), error.message()) }
            }
        };
        let _ = self.events.send(event);
    }

    async fn answer(self: Rc<Self>, message: Message) {
        match message {
            Message::Discover(reply) => drop(reply.send(self.link.discover().await)),
            Message::Connect(name, mut reply) => {
                let connected = tokio::select! {
                    connected = self.connect(name) => connected,
                    // The caller has stopped waiting, so the question to the other side ends too.
                    () = reply.closed() => return,
                };
                let _ = reply.send(connected);
            }
            Message::Revoke(name, reply) => drop(reply.send(self.revoke(name).await)),
            Message::Rights(name, reply) => drop(reply.send(self.peer(&name).map(|peer| peer.grant.clone()))),
            Message::Answer(id, yes, reply) => drop(reply.send(self.ours.questions.answer(id, yes))),
            Message::Disconnect(name, reply) => drop(reply.send(self.disconnect(name).await)),
            Message::List(reply) => drop(reply.send(self.table.borrow().peers().cloned().collect())),
            Message::Run { node, call, stdio, mut reply } => {
                let outcome = tokio::select! {
                    ran = self.run(node, call, stdio) => ran.unwrap_or_else(Outcome::failed),
                    // The caller has cancelled the call.
                    () = reply.closed() => return,
                };
                let _ = reply.send(outcome);
            }
            Message::Describe { node, target, most, mut reply } => {
                if let Some(described) = awaited(&mut reply, self.describe(node, target, most)).await {
                    let _ = reply.send(described);
                }
            }
            Message::Spawn { node, name, target, limits, reply } => match self.peer(&node) {
                Ok(peer) => spawn(&peer, &name, &target, limits, reply).await,
                Err(error) => drop(reply.send(Err(error))),
            },
            Message::DropInstance { node, name, mut reply } => {
                let dropping = async {
                    let peer = self.peer(&node)?;
                    remote::drop_instance(&peer, &name).await
                };
                if let Some(dropped) = awaited(&mut reply, dropping).await {
                    let _ = reply.send(dropped);
                }
            }
            Message::OtherModules(reply) => drop(reply.send(self.link.other_modules().await)),
            Message::FindModule(name, version, mut reply) => {
                if let Some(found) = awaited(&mut reply, self.link.find_module(&name, version.as_ref())).await
                {
                    let _ = reply.send(found);
                }
            }
            Message::FetchModule(hash, from, mut reply) => {
                if let Some(fetched) = awaited(&mut reply, self.link.fetch_module(hash, from)).await {
                    let _ = reply.send(fetched);
                }
            }
            // `serve` and `finish_running` handle these two.
            Message::ShutDown(reply) => drop(reply.send(())),
            Message::Hurry => {}
        }
    }

    async fn connect(&self, name: NodeName) -> Result<NodeName> {
        let here = self.ours.devices.now().own_node(&name);
        let called = here.as_ref().unwrap_or(&name);
        self.returning.borrow_mut().remove(called);
        if self.table.borrow().get(called).is_some() {
            return Ok(called.clone());
        }
        let node = self.link.look_up(&name).await?;
        let name = node.name.clone();
        if self.table.borrow().get(&name).is_some() {
            return Ok(name);
        }
        let waiting = || drop(self.events.send(Event::Waiting { name: name.clone() }));
        let peer = self.ours.dial(&node, waiting).await?;
        // The user asked for this node, so an earlier revocation no longer counts.
        self.ours.gatekeeper.borrow_mut().readmit(&name);
        self.join(peer, Met::Dialled);
        Ok(name)
    }

    fn join(&self, peer: Peer, met: impl FnOnce(mpsc::Sender<NodeInfo>) -> Met) {
        join(&self.table, &self.lines, &self.events, &self.directory, Rc::new(peer), met(self.lost.clone()));
    }

    /// Reconnects to the same life of a node whose connection was lost. Stops after [`RETURN`], or when the
    /// user connects or disconnects it.
    async fn meet_again(self: Rc<Self>, node: NodeInfo) {
        let name = node.name.clone();
        self.returning.borrow_mut().insert(name.clone());
        let until = Instant::now() + RETURN;
        let mut pause = FIRST_PAUSE;
        while Instant::now() < until {
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LAST_PAUSE);
            if !self.returning.borrow().contains(&name) || self.table.borrow().get(&name).is_some() {
                break;
            }
            let found = match self.link.look_up(&name).await {
                Ok(found) if found.life() != node.life() => break,
                Ok(found) => found,
                // The node has lost gpmd too, or has ended. If it is back, it registers with gpmd first.
                Err(error) if error.code() == Code::NodeNotFound => continue,
                Err(_) => node.clone(),
            };
            match self.ours.dial(&found, || {}).await {
                Ok(peer) => {
                    if self.returning.borrow_mut().remove(&name) {
                        self.join(peer, Met::Again);
                    }
                    break;
                }
                // A denial is final only with gpmd: without it, this node has no ticket that proves its name.
                Err(error) if error.code() == Code::ConnectionDenied && self.link.is_up() => break,
                Err(error) => tracing::debug!("cannot reconnect to {name} yet: {error}"),
            }
        }
        self.returning.borrow_mut().remove(&name);
    }

    async fn disconnect(&self, name: NodeName) -> Result<()> {
        let name = self.meant(name)?;
        let returning = self.returning.borrow_mut().remove(&name);
        let peers = self.table.borrow_mut().remove_peer(&name);
        self.lines.set(&name, None);
        if peers.is_empty() && returning {
            return Ok(());
        }
        if peers.is_empty() {
            return Err(self.not_connected(&name));
        }
        self.directory.forget_node(&name);
        futures::future::join_all(peers.iter().map(|peer| peer.leave("disconnected"))).await;
        Ok(())
    }

    async fn revoke(&self, name: NodeName) -> Result<()> {
        let name = self.meant(name)?;
        let peers = self.table.borrow_mut().remove_peer(&name);
        self.lines.set(&name, None);
        if peers.is_empty() {
            return Err(self.not_connected(&name));
        }
        self.ours.gatekeeper.borrow_mut().revoke(&name);
        self.directory.forget_node(&name);
        peers.iter().for_each(|peer| peer.end(End::Revoked));
        futures::future::join_all(peers.iter().map(|peer| peer.leave(End::Revoked.words()))).await;
        Ok(())
    }

    /// Returns the name of the connected node that a person means, or the name itself. A name with this device means its node
    /// and no other.
    fn meant(&self, name: NodeName) -> Result<NodeName> {
        if let Some(own) = self.ours.devices.now().own_node(&name) {
            return Ok(own);
        }
        Ok(self.table.borrow().meant(&name)?.unwrap_or(name))
    }

    fn peer(&self, name: &NodeName) -> Result<Rc<Peer>> {
        let meant = self.meant(name.clone())?;
        let peer = self.table.borrow().get(&meant).cloned();
        peer.ok_or_else(|| self.not_connected(name))
    }

    fn not_connected(&self, name: &NodeName) -> Error {
        let table = self.table.borrow();
        let meant = table.names().find(|peer| near::is_slip(name.as_str(), peer.as_str()));
        let meant = meant.map(|peer| format!(": did you mean `{peer}`?")).unwrap_or_default();
        let what = format!("this node is not connected to `{name}`{meant}");
        Error::new(Code::NodeNotConnected, what).with_help(format!("call `Node.connect({name})` first"))
    }

    async fn run(&self, node: NodeName, call: Call, stdio: Stdio) -> Result<Outcome> {
        let _runs = self.own.begin()?;
        let peer = self.peer(&node)?;
        self.own.within(remote::call(&peer, call, stdio.output, stdio.input)).await
    }

    async fn describe(&self, node: NodeName, target: Target, most: Duration) -> Result<Option<FuncType>> {
        let peer = self.peer(&node)?;
        remote::describe(&peer, &target, most).await
    }
}

/// Ends the sessions with nodes of devices that are not trusted any more.
fn expel(table: &Rc<RefCell<Table<Rc<Peer>>>>, devices: &Devices) {
    let known = devices.now();
    let trusted = |device: Option<DeviceId>| device.is_none_or(|device| known.key(&device).is_some());
    let names: Vec<NodeName> = {
        let table = table.borrow();
        table.peers().filter(|node| !trusted(node.device)).map(|node| node.name.clone()).collect()
    };
    for name in names {
        // The end of its connections removes the peer from the table, and tells the users of this node.
        let peers = table.borrow().all(&name);
        for peer in peers {
            peer.end(End::Revoked);
            tokio::task::spawn_local(async move { peer.leave(End::Revoked.words()).await });
        }
    }
}

/// Works as long as the caller waits for the answer. Dropping the work tells the other node.
async fn awaited<R, T>(reply: &mut oneshot::Sender<R>, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = reply.closed() => None,
    }
}

/// Makes a live instance on a peer. The instance is dropped again if the caller does not take it.
async fn spawn(
    peer: &Peer,
    name: &Name,
    target: &Target,
    limits: Limits,
    mut reply: oneshot::Sender<Result<oneshot::Sender<()>>>,
) {
    match awaited(&mut reply, remote::spawn(peer, name, target, limits)).await {
        Some(Ok(())) => {
            let (taken, took) = oneshot::channel();
            if reply.send(Ok(taken)).is_ok() && took.await.is_ok() {
                return;
            }
        }
        Some(Err(error)) => return drop(reply.send(Err(error))),
        // The instance may exist, with its answer on the way.
        None => {}
    }
    let _ = tokio::time::timeout(limits::DROPPING, remote::drop_instance(peer, name)).await;
}

/// Events that reach the thread without a request.
struct Word {
    gpmd: mpsc::Receiver<link::Event>,
    lost: mpsc::Receiver<NodeInfo>,
}

/// Returns a number that differs in every life of a node: its start time in nanoseconds.
fn incarnation() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
