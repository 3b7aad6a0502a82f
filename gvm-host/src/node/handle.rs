//! The handle of a node: everything that a node can do.
//!
//! In: calls and requests, from any thread. Out: futures of their results. Must not know: capnp, sockets.
//! Local calls run on the thread that polls their future; requests to other nodes go to the node's thread.

use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc, oneshot};

use super::actor::{self, GRACE, Message};
use super::lines::Lines;
use super::runner::{Caller, Runner};
use super::{Config, network, waiting};
use crate::base::device::{DeviceId, NodeName};
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::event::Event;
use crate::base::id::{Hash, Name};
use crate::base::limits::{self, Limits};
use crate::base::node::NodeInfo;
use crate::base::threads::workers;
use crate::base::value::FuncType;
use crate::call::rights::SessionRights;
use crate::call::stdio::Stdio;
use crate::call::{Call, ModuleRef, Outcome, Target};
use crate::gpmd::link::OtherModule;
use crate::node::live::{self, Directory, Place};
use crate::node::modules::{self, Modules};
use crate::peer::channel::Channel;
use crate::peer::line::Line;
use crate::peer::questions::{Answerers, Answering};
use crate::peer::term::Term;
use crate::trust::devices::Devices;

/// The most requests that wait for the node's thread. Beyond it, callers wait.
const WAITING: usize = 256;

/// How many events a slow listener may fall behind before it loses some.
const EVENTS: usize = 256;

/// A running node. Cheap to clone, `Send + Sync`. The node ends with [`Handle::shut_down`] or when the last
/// clone is dropped.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Inner>);

pub(super) struct Inner {
    info: NodeInfo,
    runner: Runner,
    /// The users of this node: the REPL, scripts, Python and guests.
    people: Caller,
    answerers: Answerers,
    directory: Directory,
    lines: Lines,
    /// The term of this node's calls on other nodes.
    own: Term,
    requests: mpsc::Sender<Message>,
    events: broadcast::Sender<Event>,
    thread: Mutex<Option<JoinHandle<()>>>,
    devices: Devices,
}

impl Handle {
    /// Starts a node: it listens, registers with the home's gpmd, and serves requests.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING`, `NODE_NAME_TAKEN`, those of reading the home.
    pub async fn start(config: Config) -> Result<Handle> {
        let modules = Modules::open(config.home.clone())?;
        let runner = Runner::new(config.engine.clone(), modules, config.grants.clone(), config.limits);
        let (directory, lines) = (Directory::default(), Lines::default());
        let (requests, inbox) = mpsc::channel(WAITING);
        let (events, _) = broadcast::channel(EVENTS);
        let (answerers, devices) = (Answerers::default(), Devices::default());
        let (ready, registered) = oneshot::channel();
        let (completed, complete) = oneshot::channel();
        let workers = match &config.workers {
            Some(workers) => workers.clone(),
            None => workers()?.handle().clone(),
        };
        let foreign = config.foreign;
        let parts = actor::Parts {
            config,
            runner: runner.clone(),
            directory: directory.clone(),
            events: events.clone(),
            answerers: answerers.clone(),
            workers,
            lines: lines.clone(),
            devices: devices.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("gvm-node".into())
            .spawn(move || actor::run(parts, inbox, ready, complete))
            .map_err(|error| Error::io("cannot start the node's thread", error))?;
        let (info, own) = registered.await.map_err(|_| Error::internal("the node's thread ended"))??;
        let thread = Mutex::new(Some(thread));
        let people = Caller::default();
        let inner = Inner {
            info,
            runner,
            people,
            answerers,
            directory,
            lines,
            own,
            requests,
            events,
            thread,
            devices,
        };
        let node = Handle(Arc::new(inner));
        node.0.runner.join(Arc::new(network::OfNode(Arc::downgrade(&node.0))));
        if foreign {
            node.0.runner.modules().look_elsewhere(Arc::new(OtherDevices(node.0.requests.downgrade())));
        }
        // If the thread has ended, the next request says so.
        let _ = completed.send(());
        Ok(node)
    }

    /// Returns the node's name, id and addresses.
    pub fn info(&self) -> &NodeInfo {
        &self.0.info
    }

    /// Returns the node's name.
    pub fn name(&self) -> &NodeName {
        &self.0.info.name
    }

    /// Returns the runner of local calls.
    pub fn runner(&self) -> &Runner {
        &self.0.runner
    }

    /// Returns the events of this node from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// Returns the devices that this node trusts.
    pub fn devices(&self) -> &Devices {
        &self.0.devices
    }

    /// Returns the name as it is used on this device: without the device if that is this one.
    pub(super) fn called(&self, name: NodeName) -> NodeName {
        if name.device().is_none() {
            return name;
        }
        self.0.devices.now().own_node(&name).unwrap_or(name)
    }

    /// Returns the other node that a person means; `None` for this node, with or without the name of its device. A name with
    /// the device keeps it, because the name alone may also mean a node of another device.
    pub fn other(&self, node: Option<NodeName>) -> Option<NodeName> {
        node.filter(|node| self.called(node.clone()) != self.0.info.name)
    }

    /// Returns the line to the connected node that a person means with this name.
    fn line(&self, name: &NodeName) -> Option<Arc<Line>> {
        let own = name.device().and_then(|_| self.0.devices.now().own_node(name));
        match own {
            Some(own) => self.0.lines.exactly(&own),
            None => self.0.lines.get(name),
        }
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T> {
        let gone = || Error::new(Code::NodeDown, "this node has been shut down");
        let (reply, answer) = oneshot::channel();
        self.0.requests.send(message(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone().with_effect(Effect::Unknown))
    }

    /// Sends a request that another node answers, and waits at most this long, so that a node that hangs does not
    /// keep its caller waiting.
    async fn ask_there<T>(
        &self,
        most: Duration,
        late: Error,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T> {
        tokio::time::timeout(most, self.ask(message)).await.unwrap_or(Err(late))
    }

    /// Returns every running node of the network, this one included, sorted by name. A node of another device has its device
    /// in its name.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn discover(&self) -> Result<Vec<NodeInfo>> {
        self.ask(Message::Discover).await?
    }

    /// Connects to a node, and returns its name: with its device, if that is another one. Does nothing if it is already
    /// connected. If the other node asks its user, this can
    /// take a minute and sends [`Event::Waiting`]; dropping the future withdraws the question. A node whose
    /// session was revoked here is accepted again.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND`, `CONNECTION_DENIED`, `NODE_DOWN`, `GPMD_NOT_RUNNING`.
    pub async fn connect(&self, name: NodeName) -> Result<NodeName> {
        match self.other(Some(name)) {
            Some(name) => self.ask(|reply| Message::Connect(name, reply)).await?,
            None => Ok(self.0.info.name.clone()),
        }
    }

    /// Ends the connection to a node.
    ///
    /// # Errors
    /// `NODE_NOT_CONNECTED`.
    pub async fn disconnect(&self, name: NodeName) -> Result<()> {
        self.ask(|reply| Message::Disconnect(name, reply)).await?
    }

    /// Ends the session that a node holds here, and the connection to it. The calls that it runs here stop,
    /// and its instances are freed. It cannot connect again until [`Handle::connect`] is called for it here,
    /// or the user is asked and allows it.
    ///
    /// # Errors
    /// `NODE_NOT_CONNECTED`.
    pub async fn revoke(&self, name: NodeName) -> Result<()> {
        self.ask(|reply| Message::Revoke(name, reply)).await?
    }

    /// Returns what this node may call on a connected node, and until when.
    ///
    /// # Errors
    /// `NODE_NOT_CONNECTED`.
    pub async fn rights(&self, name: NodeName) -> Result<SessionRights> {
        self.ask(|reply| Message::Rights(name, reply)).await?
    }

    /// Returns the modules of the other members of the network that are up, sorted by name and device.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn other_modules(&self) -> Result<Vec<OtherModule>> {
        self.ask(Message::OtherModules).await?
    }

    /// Declares that this process answers [`Event::Asked`], as long as the guard lives.
    pub fn answering(&self) -> Answering {
        self.0.answerers.join()
    }

    /// Answers a question of [`Event::Asked`].
    ///
    /// # Errors
    /// `NODE_NOT_FOUND` if the question is no longer open.
    pub async fn answer(&self, id: u64, yes: bool) -> Result<()> {
        self.ask(|reply| Message::Answer(id, yes, reply)).await?
    }

    /// Returns the connected nodes, sorted by name.
    ///
    /// # Errors
    /// `NODE_DOWN` if this node has been shut down.
    pub async fn list(&self) -> Result<Vec<NodeInfo>> {
        self.ask(Message::List).await
    }

    /// Runs a call on a connected node, or here if `node` is `None` or this node's own name. A call of a module
    /// runs on a fresh instance. Its output arrives in `stdio` while it runs. Dropping the future cancels the call.
    #[allow(clippy::manual_async_fn, reason = "an `async fn` would copy its parameters, which takes time")]
    pub fn run(
        &self,
        node: Option<NodeName>,
        mut call: Call,
        mut stdio: Stdio,
    ) -> impl Future<Output = Outcome> + Send + use<'_> {
        async move {
            match node {
                // In a box, so that calls that run here do not carry its state.
                Some(node) => Box::pin(self.run_named(node, call, stdio)).await,
                None => pin!(self.0.runner.run_in_place(&self.0.people, &mut call, &mut stdio)).await,
            }
        }
    }

    /// Runs a call on the node with this name, which may be this one.
    async fn run_named(&self, node: NodeName, call: Call, stdio: Stdio) -> Outcome {
        match self.other(Some(node)) {
            Some(node) => self.run_on(node, call, stdio).await,
            None => self.0.runner.run(&self.0.people, call, stdio).await,
        }
    }

    async fn run_on(&self, node: NodeName, mut call: Call, stdio: Stdio) -> Outcome {
        // The limits of this node also apply to its calls on other nodes.
        call.limits = self.0.runner.limits().narrow(call.limits);
        let timeout = call.limits.timeout;
        let running = self.run_there(node, call, stdio);
        let outcome = match timeout {
            None => running.await,
            Some(most) => tokio::time::timeout(most + GRACE, running)
                .await
                .unwrap_or_else(|_| Err(late("end the call", most))),
        };
        outcome.unwrap_or_else(Outcome::failed)
    }

    /// Runs a call on another node: over the channel of the thread that waits for it, over the channel that all other
    /// callers share, or, before there is one, over the connection of the session.
    async fn run_there(&self, node: NodeName, mut call: Call, stdio: Stdio) -> Result<Outcome> {
        if let Some(line) = self.line(&node) {
            if line.info.device.is_some() {
                self.pin(&mut call.target).await?;
            }
            if let Some(channel) = channel(&line).await {
                let _runs = self.0.own.begin()?;
                return self.0.own.within(line.call(&channel, call, stdio)).await;
            }
        }
        self.ask(|reply| Message::Run { node, call, stdio, reply }).await
    }

    /// Pins the module of a call on another device to what this home has under its name, so that both devices run the same
    /// bytes. If this home has no such module, the other device decides.
    async fn pin(&self, target: &mut Target) -> Result<()> {
        let ModuleRef::Stored { name, version } = &target.module else { return Ok(()) };
        let modules = self.0.runner.modules();
        let hash = match modules.resolve_now(name, version.as_ref()) {
            Some(hash) => hash,
            None => match modules.resolve(name, version.as_ref()).await {
                Ok(stored) => stored.hash,
                Err(error) if error.code() == Code::ModuleNotFound => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        target.module = ModuleRef::Pinned { name: name.clone(), hash };
        Ok(())
    }

    /// Pins the module of a target on this node, if that is a node of another device.
    async fn pin_for(&self, node: &NodeName, target: &mut Target) -> Result<()> {
        match self.line(node).is_some_and(|line| line.info.device.is_some()) {
            true => self.pin(target).await,
            false => Ok(()),
        }
    }

    /// Makes a live instance of a module, here or on a connected node, and returns its name. The instance
    /// keeps its state until it is dropped, or until its node or this one ends. Dropping the future stops the start
    /// code and leaves no instance.
    ///
    /// # Errors
    /// Those of preparing a call there; `NODE_NOT_CONNECTED`, `NODE_DOWN`, `LIMIT_EXCEEDED`, `TIMEOUT`.
    pub async fn spawn(&self, node: Option<NodeName>, mut target: Target, limits: Limits) -> Result<Name> {
        let node = self.other(node);
        // An instance would hide a stored module with the same name.
        let index = self.0.runner.modules().index();
        let name = self.0.directory.next_name(|name| index.modules.contains_key(name))?;
        // The name of the connected node, so that the instance stays on it whoever connects later.
        let called = |node: &NodeName| match self.line(node) {
            Some(line) => line.info.name.clone(),
            None => self.called(node.clone()),
        };
        let place = Place { node: node.as_ref().map(called), module: target.module.to_string() };
        let limits = self.0.runner.limits().narrow(limits);
        let taken = match node {
            None => {
                self.0.runner.spawn(&self.0.people, name.clone(), &target, limits).await?;
                None
            }
            Some(node) => {
                self.pin_for(&node, &mut target).await?;
                let name = name.clone();
                // The default of the other node.
                let most = limits.timeout.unwrap_or(limits::PEER_TIMEOUT);
                let late = late("make the instance", most);
                let message = |reply| Message::Spawn { node, name, target, limits, reply };
                Some(self.ask_there(most + GRACE, late, message).await??)
            }
        };
        // There is no await from here on, so a dropped future leaves both the instance and its name, or neither.
        self.0.directory.add(name.clone(), place);
        if let Some(taken) = taken {
            let _ = taken.send(());
        }
        Ok(name)
    }

    /// Returns the place of the live instance with this name, if there is one.
    pub fn instance(&self, name: &Name) -> Option<Place> {
        self.0.directory.get(name)
    }

    /// Returns the live instances that the users of this node hold, sorted by name.
    pub fn instances(&self) -> Vec<(Name, Place)> {
        self.0.directory.list()
    }

    /// Drops an instance, here or on another node. If that node does not answer, the instance keeps its name, so
    /// that you can drop it again.
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
        let dropped = self.ask_there(most, late("drop the instance", most), message).await.flatten();
        if !dropped.as_ref().is_err_and(|error| error.code() == Code::Timeout) {
            self.0.directory.remove(&name);
        }
        dropped
    }

    /// Returns the signature of a function on a connected node, or here if `node` is `None` or this node's own name.
    /// `None` for a main. Dropping the future ends the work, also on the other node.
    ///
    /// # Errors
    /// Those of preparing the call there; `NODE_NOT_CONNECTED`, `NODE_DOWN`, `TIMEOUT`.
    pub async fn describe(&self, node: Option<NodeName>, mut target: Target) -> Result<Option<FuncType>> {
        let Some(node) = self.other(node) else {
            let (limits, began) = (Limits::default(), Instant::now());
            return Ok(self.0.runner.describe(&self.0.people, &target, limits, began).await?.1);
        };
        self.pin_for(&node, &mut target).await?;
        // The other node may have to compile the module first.
        let most = self.0.runner.limits().timeout.unwrap_or(limits::PEER_TIMEOUT);
        let late = late("describe the function", most).with_effect(Effect::NotStarted);
        self.ask_there(most + GRACE, late, |reply| Message::Describe { node, target, most, reply }).await?
    }

    /// Makes a [`Handle::shut_down`] that is under way stop waiting for running calls.
    pub async fn hurry(&self) {
        let _ = self.0.requests.send(Message::Hurry).await;
    }

    /// Ends the node in an orderly way. Calls that run for peers, or on them for this node, have some seconds
    /// to end, and new calls are refused. Then the other calls are cancelled, and peers and gpmd are told.
    /// Takes at most ten seconds, and almost no time if nothing runs.
    pub async fn shut_down(&self) {
        let _ = self.ask(Message::ShutDown).await;
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// The modules of other devices, which the node's thread asks gpmd for.
struct OtherDevices(mpsc::WeakSender<Message>);

impl OtherDevices {
    fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T>>) -> Message,
    ) -> modules::Answer<T> {
        let gone = || Error::new(Code::NodeDown, "this node has been shut down");
        let (reply, answer) = oneshot::channel();
        let (requests, message) = (self.0.upgrade(), message(reply));
        Box::pin(async move {
            requests.ok_or_else(gone)?.send(message).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        })
    }
}

impl modules::Elsewhere for OtherDevices {
    fn find(&self, name: Name, version: Option<semver::Version>) -> modules::Answer<Option<Hash>> {
        self.ask(|reply| Message::FindModule(name, version, reply))
    }

    fn fetch(&self, hash: Hash, from: Option<DeviceId>) -> modules::Answer<()> {
        self.ask(|reply| Message::FetchModule(hash, from, reply))
    }
}

/// The error of another node that did not do so in time.
fn late(what: &str, most: Duration) -> Error {
    let most = humantime::format_duration(most);
    Error::new(Code::Timeout, format!("the other node did not {what} within {most}"))
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

/// Returns the channel for calls of this thread on a peer.
async fn channel(line: &Arc<Line>) -> Option<Channel> {
    match waiting::channel(line).await {
        Some(channel) => Some(channel),
        // A thread that waits opens a channel of its own at its second call.
        None => line.shared(!waiting::waits()),
    }
}
