//! The handle of a node: everything that can be asked of it.
//!
//! In: calls and requests, from any thread. Out: futures of what became of them. Local calls run where
//! their future is polled, without a hop; what concerns other nodes goes to the node's own thread. Must
//! not know: capnp, sockets.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot};

use super::actor::{self, GRACE, Message};
use super::runner::{Caller, Runner};
use super::{Config, network};
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::event::Event;
use crate::base::id::{Name, NodeInfo};
use crate::base::limits::{self, Limits};
use crate::base::threads::workers;
use crate::base::value::FuncType;
use crate::call::rights::SessionRights;
use crate::call::stdio::Stdio;
use crate::call::{Call, Outcome, Target};
use crate::node::live::{self, Directory, Place};
use crate::node::modules::Modules;
use crate::peer::questions::{Answerers, Answering};

/// Requests that wait for the node's thread; more make their callers wait.
const WAITING: usize = 256;

/// Events that a slow listener may fall behind.
const EVENTS: usize = 256;

/// A running node. Cheap to clone, `Send + Sync`; the node ends with [`Handle::shut_down`] or with the
/// last clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Inner>);

pub(super) struct Inner {
    info: NodeInfo,
    runner: Runner,
    /// This node's own people.
    people: Caller,
    answerers: Answerers,
    directory: Directory,
    requests: mpsc::Sender<Message>,
    events: broadcast::Sender<Event>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    /// Starts a node: it listens, registers with the home's gpmd, and answers.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING`, `NODE_NAME_TAKEN`, those of reading the home.
    pub async fn start(config: Config) -> Result<Handle> {
        let modules = Modules::open(config.home.clone())?;
        let runner = Runner::new(config.engine.clone(), modules, config.grants.clone(), config.limits);
        let directory = Directory::default();
        let (requests, inbox) = mpsc::channel(WAITING);
        let (events, _) = broadcast::channel(EVENTS);
        let answerers = Answerers::default();
        let (ready, registered) = oneshot::channel();
        let workers = match &config.workers {
            Some(workers) => workers.clone(),
            None => workers()?.handle().clone(),
        };
        let parts = actor::Parts {
            config,
            runner: runner.clone(),
            directory: directory.clone(),
            events: events.clone(),
            answerers: answerers.clone(),
            workers,
        };
        let thread = std::thread::Builder::new()
            .name("gvm-node".into())
            .spawn(move || actor::run(parts, inbox, ready))
            .map_err(|error| Error::io("starting the node's thread", error))?;
        let info = registered.await.map_err(|_| Error::internal("the node's thread ended"))??;
        let thread = Mutex::new(Some(thread));
        let people = Caller::default();
        let inner = Inner { info, runner, people, answerers, directory, requests, events, thread };
        let node = Handle(Arc::new(inner));
        node.0.runner.join(Arc::new(network::OfNode(Arc::downgrade(&node.0))));
        Ok(node)
    }

    /// Who this node is.
    pub fn info(&self) -> &NodeInfo {
        &self.0.info
    }

    /// The node's name.
    pub fn name(&self) -> &Name {
        &self.0.info.name
    }

    /// What runs calls here.
    pub fn runner(&self) -> &Runner {
        &self.0.runner
    }

    /// What happens to this node from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T> {
        let gone = || Error::new(Code::NodeDown, "this node has been shut down");
        let (reply, answer) = oneshot::channel();
        self.0.requests.send(message(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone().with_effect(Effect::Unknown))
    }

    /// Asks what another node has to answer, for so long at the most: one that hangs keeps nobody waiting.
    async fn ask_there<T>(
        &self,
        most: Duration,
        late: Error,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T> {
        tokio::time::timeout(most, self.ask(message)).await.unwrap_or(Err(late))
    }

    /// Every live node of the home, this one included, sorted by name.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn discover(&self) -> Result<Vec<NodeInfo>> {
        self.ask(Message::Discover).await?
    }

    /// Connects with a node; harmless where they are connected already. Where a person is asked there it
    /// may take a minute, which [`Event::Waiting`] tells; dropping the future takes the question back. A
    /// node whose session was revoked here is accepted again.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND`, `CONNECTION_DENIED`, `NODE_DOWN`, `GPMD_NOT_RUNNING`.
    pub async fn connect(&self, name: Name) -> Result<()> {
        if name == self.0.info.name {
            return Ok(());
        }
        self.ask(|reply| Message::Connect(name, reply)).await?
    }

    /// Ends the connection with a node.
    ///
    /// # Errors
    /// `NODE_NOT_CONNECTED`.
    pub async fn disconnect(&self, name: Name) -> Result<()> {
        self.ask(|reply| Message::Disconnect(name, reply)).await?
    }

    /// Ends the session that a node holds here, and the connection with it: the calls that it has running
    /// here stop, its instances are freed, and it does not come back until [`Handle::connect`] is called
    /// for it here, or a person is asked and allows it.
    ///
    /// # Errors
    /// `NODE_NOT_CONNECTED`.
    pub async fn revoke(&self, name: Name) -> Result<()> {
        self.ask(|reply| Message::Revoke(name, reply)).await?
    }

    /// What this node may call on a connected node, and until when.
    ///
    /// # Errors
    /// `NODE_NOT_CONNECTED`.
    pub async fn rights(&self, name: Name) -> Result<SessionRights> {
        self.ask(|reply| Message::Rights(name, reply)).await?
    }

    /// Says that [`Event::Asked`] is answered in this process, for as long as the guard lives.
    pub fn answering(&self) -> Answering {
        self.0.answerers.join()
    }

    /// Answers a question of [`Event::Asked`].
    ///
    /// # Errors
    /// `NODE_NOT_FOUND` where it is no longer open.
    pub async fn answer(&self, id: u64, yes: bool) -> Result<()> {
        self.ask(|reply| Message::Answer(id, yes, reply)).await?
    }

    /// The connected nodes, sorted by name.
    ///
    /// # Errors
    /// `NODE_DOWN` where this node has been shut down.
    pub async fn list(&self) -> Result<Vec<NodeInfo>> {
        self.ask(Message::List).await
    }

    /// Runs a call on a connected node; on this one where the name is none or its own. A call of a module gets a
    /// fresh instance. What the guest writes arrives in `stdio` meanwhile. Dropping the future stops the call.
    pub async fn run(&self, node: Option<Name>, call: Call, stdio: Stdio) -> Outcome {
        let Some(node) = node.filter(|node| *node != self.0.info.name) else {
            return self.0.runner.run(&self.0.people, call, stdio).await;
        };
        // This side's own limits hold there too.
        let call = Call { limits: self.0.runner.limits().narrow(call.limits), ..call };
        let timeout = call.limits.timeout;
        let message = |reply| Message::Run { node, call, stdio, reply };
        let outcome = match timeout {
            None => self.ask(message).await,
            Some(most) => self.ask_there(most + GRACE, late("end the call", most), message).await,
        };
        outcome.unwrap_or_else(Outcome::failed)
    }

    /// Brings a module to life, here or on a connected node, and says by which name it is called. It keeps
    /// its state until it is dropped, or until its node or this one goes. Dropping the future stops its start
    /// code, and leaves no instance.
    ///
    /// # Errors
    /// As of preparing a call there; `NODE_NOT_CONNECTED`, `NODE_DOWN`, `LIMIT_EXCEEDED`, `TIMEOUT`.
    pub async fn spawn(&self, node: Option<Name>, target: Target, limits: Limits) -> Result<Name> {
        let node = node.filter(|node| *node != self.0.info.name);
        // A stored module of that name would be hidden by the instance.
        let index = self.0.runner.modules().index();
        let name = self.0.directory.next_name(|name| index.modules.contains_key(name))?;
        let place = Place { node: node.clone(), module: target.module.to_string() };
        let limits = self.0.runner.limits().narrow(limits);
        let taken = match node {
            None => {
                self.0.runner.spawn(&self.0.people, name.clone(), &target, limits).await?;
                None
            }
            Some(node) => {
                let name = name.clone();
                // What the other node allows where this one says nothing.
                let most = limits.timeout.unwrap_or(limits::PEER_TIMEOUT);
                let late = late("bring the module to life", most);
                let message = |reply| Message::Spawn { node, name, target, limits, reply };
                Some(self.ask_there(most + GRACE, late, message).await??)
            }
        };
        // Nothing is waited for from here on: who drops this future has the instance and its name, or neither.
        self.0.directory.add(name.clone(), place);
        if let Some(taken) = taken {
            let _ = taken.send(());
        }
        Ok(name)
    }

    /// Where the live instance of this name is, if there is one.
    pub fn instance(&self, name: &Name) -> Option<Place> {
        self.0.directory.get(name)
    }

    /// The live instances that this node's people hold, sorted by name.
    pub fn instances(&self) -> Vec<(Name, Place)> {
        self.0.directory.list()
    }

    /// Lets an instance go, wherever it lives. One whose node does not answer keeps its name, so that it can be
    /// dropped again.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND`; `NODE_DOWN`, `TIMEOUT`.
    pub async fn drop_instance(&self, name: Name) -> Result<()> {
        let place = self.0.directory.get(&name).ok_or_else(|| live::not_found(&name))?;
        let Some(node) = place.node else {
            self.0.directory.remove(&name);
            return self.0.people.held.remove(&name);
        };
        let most = limits::DROPPING;
        let message = |reply| Message::DropInstance { node, name: name.clone(), reply };
        let dropped = self.ask_there(most, late("let the instance go", most), message).await.flatten();
        if !dropped.as_ref().is_err_and(|error| error.code() == Code::Timeout) {
            self.0.directory.remove(&name);
        }
        dropped
    }

    /// The signature of a function on a connected node, or on this one; none for a main. Dropping the future ends
    /// the work, also on the other node.
    ///
    /// # Errors
    /// As of preparing the call there; `NODE_NOT_CONNECTED`, `NODE_DOWN`, `TIMEOUT`.
    pub async fn describe(&self, node: Option<Name>, target: Target) -> Result<Option<FuncType>> {
        let Some(node) = node.filter(|node| *node != self.0.info.name) else {
            let (limits, began) = (Limits::default(), Instant::now());
            return Ok(self.0.runner.describe(&self.0.people, &target, limits, began).await?.1);
        };
        // The module may have to be compiled for it.
        let most = self.0.runner.limits().timeout.unwrap_or(limits::PEER_TIMEOUT);
        let late = late("describe the function", most).with_effect(Effect::NotStarted);
        self.ask_there(most + GRACE, late, |reply| Message::Describe { node, target, most, reply }).await?
    }

    /// Has a [`Handle::shut_down`] under way wait no longer for what runs.
    pub async fn hurry(&self) {
        let _ = self.0.requests.send(Message::Hurry).await;
    }

    /// Ends the node in order: what runs for peers, or on them for this node, may end within some seconds,
    /// while new calls are refused; then the rest is taken back, peers and gpmd hear goodbye. Takes ten
    /// seconds at the very most, and next to none where nothing runs.
    pub async fn shut_down(&self) {
        let _ = self.ask(Message::ShutDown).await;
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// The error of another node that did not do so in time.
fn late(what: &str, most: Duration) -> Error {
    let most = humantime::format_duration(most);
    Error::new(Code::Timeout, format!("the other node did not {what} after {most}"))
        .with_effect(Effect::Unknown)
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Handle>();
    shared::<Call>();
    shared::<Outcome>();
    shared::<crate::base::value::Value>();
    shared::<Error>();
};
