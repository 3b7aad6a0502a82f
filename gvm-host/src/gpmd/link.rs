//! A node's registration with gpmd, which survives a restart of gpmd.
//!
//! In: the node's identity. Out: its registration, the other running nodes, the index of modules, and events
//! when gpmd is lost or back. Must not know: calls, sessions, connections between nodes.
//!
//! Belongs to the node's RPC thread. While gpmd is away, the index is read from the home. When gpmd is back,
//! the node registers again with the same name and id.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use semver::Version;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::route::{Route, not_running};
use super::{changes, entry};
use crate::base::device::{DeviceId, NodeName};
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::id::{Hash, Name, parse_version};
use crate::base::node::{Applicant, NodeInfo, Secret};
use crate::modules::index::{Entry, Index};
use crate::modules::store::Reader;
use crate::trust::certificate::{CLOCKS, HOLDS};
use crate::trust::devices::Devices;
use crate::trust::identity::{Card, Identity};
use crate::trust::key::PublicKey;
use crate::trust::roster::Roster;
use crate::trust::roster_file;
use crate::wire;
use crate::wire::hello::{self, Hello};
use crate::wire::rpc::{Connection, MessageLimits, Side, contained};
use crate::wire::schema::gpmd_capnp::{
    certified, fetched_module, found_module, index_subscriber, looked_up, other_module, registered,
    registration, registry, registry_door, registry_greeting, subscription,
};

/// How long gpmd may take to answer. It usually answers within a millisecond, but its disk may be slow.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// The first and the longest wait between two attempts to reach gpmd again.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How often a node looks whether its certificate should be replaced.
const LOOK: Duration = Duration::from_secs(2);

/// The most events that wait to be read. More are dropped; [`Link::is_up`] still tells the current state.
const EVENTS: usize = 16;

/// What happened to gpmd.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// gpmd is gone. The text says why: gpmd's own reason if it gave one.
    Lost(String),
    /// gpmd is back and the node is registered again.
    Back,
    /// gpmd is back but refuses to register the node. The node keeps trying.
    Refused(Error),
}

/// Receives each index that gpmd announces, before gpmd acknowledges the change to the command that made it.
/// Receives `None` when the index must be read from the home.
pub type Announced = Box<dyn Fn(Option<Arc<Index>>)>;

/// The node that registers, and what gpmd tells it about itself and others.
pub struct Us {
    pub applicant: Applicant,
    /// Receives the certificates.
    pub identity: Identity,
    /// Receives the devices that the node trusts.
    pub devices: Devices,
}

impl Us {
    /// Returns a node with a new key, which trusts nobody yet.
    ///
    /// # Errors
    /// `INTERNAL` if the system has no random numbers.
    pub fn new(applicant: Applicant) -> Result<Us> {
        Ok(Us { applicant, identity: Identity::new()?, devices: Devices::default() })
    }
}

/// A module of another device: the version that the device chooses.
#[derive(Clone, Debug)]
pub struct OtherModule {
    pub device: Name,
    pub name: Name,
    pub version: Version,
    pub entry: Entry,
}

impl OtherModule {
    fn read(from: other_module::Reader<'_>) -> capnp::Result<Result<OtherModule>> {
        let (device, name) = (from.get_device()?.to_str()?, from.get_name()?.to_str()?);
        let (version, entry) = (from.get_version()?.to_str()?, entry::read(from.get_entry()?)?);
        let named = || Ok((device.parse()?, name.parse()?, parse_version(version)?));
        Ok(named().map(|(device, name, version)| OtherModule { device, name, version, entry }))
    }
}

/// What is called when gpmd tells the node something.
pub struct Told {
    pub announced: Announced,
    /// Called after the trusted devices have changed, before the change is acknowledged.
    pub devices: Box<dyn Fn()>,
}

impl Default for Told {
    fn default() -> Told {
        Told { announced: Box::new(|_| {}), devices: Box::new(|| {}) }
    }
}

/// A node's registration. Dropping it ends the registration.
pub struct Link {
    shared: Rc<Shared>,
    watching: AbortHandle,
}

struct Shared {
    home: Home,
    route: Route,
    applicant: RefCell<Applicant>,
    /// Proves to gpmd that a later registration is from the same node.
    secret: Secret,
    node: RefCell<NodeInfo>,
    identity: Identity,
    devices: Devices,
    /// `None` while gpmd is away.
    session: RefCell<Option<Session>>,
    index: RefCell<Reader>,
    told: Told,
    /// The reason that gpmd gave when it stopped.
    farewell: RefCell<Option<String>>,
}

struct Session {
    registry: registry::Client,
    connection: Connection,
    // Dropping these ends the registration and the subscription.
    registration: registration::Client,
    subscription: subscription::Client,
}

impl Link {
    /// Connects to gpmd and registers. `told` receives the index before this returns. When gpmd is lost,
    /// the link reconnects by the same route. Call it on a `LocalRuntime` or `LocalSet`.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING`, `NODE_NAME_TAKEN`, `VERSION_MISMATCH`, `AUTH_FAILED`, `OVERLOADED`.
    pub async fn connect(
        home: &Home,
        route: Route,
        us: Us,
        told: Told,
    ) -> Result<(Link, mpsc::Receiver<Event>)> {
        let Us { applicant, identity, devices } = us;
        // A placeholder until the registry has chosen the name.
        let node = NodeInfo {
            name: "unnamed".parse()?,
            device: None,
            id: applicant.life.id,
            incarnation: applicant.life.incarnation,
            address: applicant.addresses.first().cloned().unwrap_or_default(),
            addresses: applicant.addresses.clone(),
            since_ms: 0,
        };
        let shared = Rc::new(Shared {
            home: home.clone(),
            route,
            applicant: RefCell::new(applicant),
            secret: Secret::random(),
            node: RefCell::new(node),
            identity,
            devices,
            session: RefCell::default(),
            index: RefCell::new(Reader::new(home)),
            told,
            farewell: RefCell::default(),
        });
        open(&shared).await?;
        let (sender, events) = mpsc::channel(EVENTS);
        let watching = tokio::task::spawn_local(watch(shared.clone(), sender)).abort_handle();
        Ok((Link { shared, watching }, events))
    }

    /// Returns the node as gpmd registered it.
    pub fn node(&self) -> NodeInfo {
        self.shared.node.borrow().clone()
    }

    /// Returns whether gpmd is connected.
    pub fn is_up(&self) -> bool {
        self.shared.session.borrow().is_some()
    }

    /// Returns every running node of the home, this one included, sorted by name.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn discover(&self) -> Result<Vec<NodeInfo>> {
        let mut nodes = discover(&self.shared.registry()?).await?;
        // gpmd lists its own nodes first.
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    /// Returns the running node with this name.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND`; `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn look_up(&self, name: &NodeName) -> Result<NodeInfo> {
        let mut request = self.shared.registry()?.look_up_request();
        request.get().set_name(name.as_str());
        let answer = answered(request.send().promise).await?;
        let which = answer.get().map_err(failed)?.which();
        looked_up(which.map_err(|error| failed(error.into()))?)
    }

    /// Returns the hash that another device has under this name; `None` if none has it.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn find_module(&self, name: &Name, version: Option<&Version>) -> Result<Option<Hash>> {
        let mut request = self.shared.registry()?.find_module_request();
        request.get().set_name(name.as_str());
        if let Some(version) = version {
            request.get().set_version(version.to_string());
        }
        let answer = answered(request.send().promise).await?;
        match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
            found_module::Sha256(hash) => {
                let hash = hash.map_err(failed)?;
                let wrong =
                    || Error::new(Code::VersionMismatch, "gpmd sent a hash that is not 32 bytes long");
                match hash {
                    [] => Ok(None),
                    hash => hash.try_into().map(|hash| Some(Hash(hash))).map_err(|_| wrong()),
                }
            }
            found_module::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
        }
    }

    /// Returns the modules of the other members of the network that are up, sorted by name and device.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn other_modules(&self) -> Result<Vec<OtherModule>> {
        let request = self.shared.registry()?.other_modules_request();
        let answer = answered(request.send().promise).await?;
        let modules = answer.get().and_then(|answer| answer.get_modules()).map_err(failed)?;
        modules.iter().map(|module| OtherModule::read(module).map_err(failed)?).collect()
    }

    /// Gets the bytes of a module into the home, from this device or any other one that has them.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND` if no device that can be reached has them; `MODULE_CORRUPT`, `STORAGE_FULL`, `TIMEOUT`,
    /// `GPMD_NOT_RUNNING`.
    pub async fn fetch_module(&self, hash: Hash, from: Option<DeviceId>) -> Result<()> {
        let mut request = self.shared.registry()?.fetch_module_request();
        request.get().set_sha256(&hash.0);
        if let Some(device) = from {
            request.get().set_device(&device.0.0);
        }
        // gpmd ends a transfer that makes no progress.
        let answer = request.send().promise.await.map_err(failed)?;
        match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
            fetched_module::Ok(()) => Ok(()),
            fetched_module::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
        }
    }

    /// Ends the registration in an orderly way. If gpmd is connected, the name is free when this returns.
    pub async fn finish(&self) {
        self.watching.abort();
        let session = self.shared.session.borrow_mut().take();
        if let Some(Session { registry, connection, registration, subscription }) = session {
            drop((registration, subscription));
            // gpmd serves requests in order, so its answer means that it has processed the drops.
            let _ = answered(registry.ping_request().send().promise).await;
            connection.finish().await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.watching.abort();
        self.shared.forget();
    }
}

impl Shared {
    fn registry(&self) -> Result<registry::Client> {
        match &*self.session.borrow() {
            Some(session) => Ok(session.registry.clone()),
            None => Err(not_running()),
        }
    }

    /// Reads which devices this node trusts.
    fn read_devices(&self) -> Result<()> {
        let own = self.identity.card()?.device;
        let roster = roster_file::read(&self.home)?;
        self.devices.set(own, roster.iter().flat_map(Roster::devices));
        Ok(())
    }

    /// Reads the devices again after a change. If the key of the device has changed, the certificate must be new too.
    async fn devices_changed(&self) -> Result<()> {
        let registration = self.session.borrow().as_ref().map(|session| session.registration.clone());
        if let Some(registration) = registration {
            certify(&registration, &self.identity).await?;
        }
        self.read_devices()?;
        (self.told.devices)();
        Ok(())
    }

    /// Drops the session after it has ended.
    fn forget(&self) {
        (self.told.announced)(None);
        let session = self.session.borrow_mut().take();
        drop(session);
    }
}

/// Notices when gpmd goes away, and connects to it again.
async fn watch(shared: Rc<Shared>, events: mpsc::Sender<Event>) {
    loop {
        let session = shared.session.borrow().as_ref().map(|session| {
            let ended = session.registration.ended_request().send().promise;
            (session.connection.closed(), ended, session.registration.clone())
        });
        if let Some((closed, ended, registration)) = session {
            let ended = async {
                // An error means that gpmd or its connection is gone, which `closed` reports.
                if ended.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                _ = closed => {}
                () = ended => {
                    let why = "the registration was replaced".to_owned();
                    shared.farewell.borrow_mut().get_or_insert(why);
                }
                () = renew(registration, &shared.identity) => {}
            }
        }
        shared.forget();
        let farewell = shared.farewell.borrow_mut().take();
        let why = farewell.unwrap_or_else(|| "connection lost".into());
        tracing::info!(why, "gpmd is gone");
        let _ = events.try_send(Event::Lost(why));
        let mut wait = FIRST_WAIT;
        let mut refused = false;
        loop {
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            match open(&shared).await {
                Ok(()) => break,
                // gpmd may be stopped or still starting.
                Err(error) if matches!(error.code(), Code::GpmdNotRunning | Code::Overloaded) => {}
                Err(error) => {
                    tracing::warn!(%error, "gpmd is back but refuses to register this node");
                    if !std::mem::replace(&mut refused, true) {
                        let _ = events.try_send(Event::Refused(error));
                    }
                }
            }
        }
        tracing::info!("gpmd is back");
        let _ = events.try_send(Event::Back);
    }
}

/// Gets another certificate long before the last one ends, and when the clock was set. Never returns.
async fn renew(registration: registration::Client, identity: &Identity) {
    let mut certified = SystemTime::now();
    loop {
        // A timer does not run while the device sleeps, so the clock tells.
        sleep(LOOK).await;
        let now = SystemTime::now();
        if is_due(certified, now) {
            match certify(&registration, identity).await {
                Ok(()) => certified = now,
                Err(error) => tracing::warn!(%error, "cannot renew the certificate of this node"),
            }
        }
    }
}

/// Whether a certificate of this time should be replaced.
fn is_due(certified: SystemTime, now: SystemTime) -> bool {
    match now.duration_since(certified) {
        Ok(since) => since >= HOLDS / 4,
        Err(set_back) => set_back.duration() >= CLOCKS / 4,
    }
}

/// Connects to gpmd, registers and subscribes.
async fn open(shared: &Rc<Shared>) -> Result<()> {
    let transport = shared.route.dial().await?;
    let connection = Connection::start(transport, Side::Dialled, MessageLimits::CONTROL, None);
    let (registry, _) = greet(&shared.home, &shared.route, connection.first()).await?;
    let applicant = shared.applicant.borrow().clone();
    let (node, registration) = register(&registry, &applicant, shared.secret).await?;
    shared.applicant.borrow_mut().name = Some(node.name.bare().parse()?);
    *shared.node.borrow_mut() = node;
    certify(&registration, &shared.identity).await?;
    shared.read_devices()?;
    let subscriber = Subscriber { shared: Rc::downgrade(shared) };
    let mut request = registry.subscribe_request();
    request.get().set_subscriber(capnp_rpc::new_client(subscriber));
    let answer = answered(request.send().promise).await?;
    let subscription = answer.get().and_then(|answer| answer.get_subscription()).map_err(failed)?;
    let pinged = registry.clone();
    connection.watch(move || pinged.ping_request().send().promise);
    *shared.session.borrow_mut() = Some(Session { registry, connection, registration, subscription });
    Ok(())
}

/// Asks gpmd for its version and the running nodes, without registering. Call it on a `LocalRuntime` or
/// `LocalSet`.
///
/// # Errors
/// Those of [`Link::connect`].
pub async fn look(home: &Home, route: &Route) -> Result<(String, Vec<NodeInfo>)> {
    let connection = Connection::start(route.dial().await?, Side::Dialled, MessageLimits::CONTROL, None);
    let (registry, version) = greet(home, route, connection.first()).await?;
    Ok((version, discover(&registry).await?))
}

/// Returns every running node, one message after the other.
async fn discover(registry: &registry::Client) -> Result<Vec<NodeInfo>> {
    let (mut nodes, mut begin) = (Vec::new(), 0);
    loop {
        let mut request = registry.discover_request();
        request.get().set_begin(begin);
        let answer = answered(request.send().promise).await?;
        let answer = answer.get().map_err(failed)?;
        for node in answer.get_nodes().map_err(failed)? {
            nodes.push(hello::read_node(node)?);
        }
        let next = answer.get_next();
        if next <= begin {
            return Ok(nodes);
        }
        begin = next;
    }
}

async fn greet(
    home: &Home,
    route: &Route,
    greeter: registry_door::Client,
) -> Result<(registry::Client, String)> {
    let mut request = greeter.greet_request();
    hello::write(&Hello::of(home.id()), request.get().init_hello());
    let answer = answered(request.send().promise).await;
    let answer = answer.map_err(|error| route.wrong_port(error, "nodes"))?;
    match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
        registry_greeting::Ok(ok) => {
            let hello = hello::read(ok.get_hello().map_err(failed)?)?;
            hello.admit(home.id())?;
            Ok((ok.get_registry().map_err(failed)?, hello.version))
        }
        registry_greeting::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
    }
}

async fn register(
    registry: &registry::Client,
    applicant: &Applicant,
    secret: Secret,
) -> Result<(NodeInfo, registration::Client)> {
    let mut request = registry.register_request();
    hello::write_applicant(applicant, request.get().init_node());
    request.get().set_secret(secret.bytes());
    let mut accepts = request.get().init_accepts(applicant.accepts.len() as u32);
    for (place, name) in applicant.accepts.iter().enumerate() {
        accepts.set(place as u32, name);
    }
    let answer = answered(request.send().promise).await?;
    match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
        registered::Ok(ok) => {
            let node = hello::read_node(ok.get_node().map_err(failed)?)?;
            Ok((node, ok.get_registration().map_err(failed)?))
        }
        registered::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
    }
}

/// Gets a certificate for this node.
async fn certify(registration: &registration::Client, identity: &Identity) -> Result<()> {
    let mut request = registration.certify_request();
    request.get().set_key(identity.key().public().bytes());
    let answer = answered(request.send().promise).await?;
    match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
        certified::Ok(ok) => {
            let certificate = ok.get_certificate().map_err(failed)?.into();
            let device = PublicKey::read(ok.get_device().map_err(failed)?);
            let device =
                device.ok_or_else(|| Error::new(Code::VersionMismatch, "gpmd does not certify nodes"));
            identity.renew(Card { certificate, device: device? });
            Ok(())
        }
        certified::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
    }
}

/// Reads the node, or the error, in an answer of gpmd.
fn looked_up(answer: looked_up::WhichReader<'_>) -> Result<NodeInfo> {
    match answer {
        looked_up::Node(node) => hello::read_node(node.map_err(failed)?),
        looked_up::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
    }
}

/// Receives gpmd's messages. It holds the link weakly, so dropping the link ends it at once.
struct Subscriber {
    shared: std::rc::Weak<Shared>,
}

impl index_subscriber::Server for Subscriber {
    async fn changed(
        self: Rc<Self>,
        params: index_subscriber::ChangedParams,
        _: index_subscriber::ChangedResults,
    ) -> std::result::Result<(), capnp::Error> {
        contained(async move {
            let Some(shared) = self.shared.upgrade() else { return Ok(()) };
            let told = params.get()?;
            let change = match told.has_change() {
                true => changes::read(told.get_change()?)?,
                false => None,
            };
            let read = match change {
                Some(change) => shared.index.borrow_mut().follow(change),
                None => shared.index.borrow_mut().read(),
            };
            // After a failed read, each user of the index reads the file again and gets the error.
            let unreadable = read.as_ref().err().map(Error::to_string);
            (shared.told.announced)(read.ok());
            if let Some(error) = unreadable {
                tracing::warn!(error, "cannot read the index of modules");
            }
            Ok(())
        })
        .await
    }

    async fn devices(
        self: Rc<Self>,
        _: index_subscriber::DevicesParams,
        _: index_subscriber::DevicesResults,
    ) -> std::result::Result<(), capnp::Error> {
        contained(async move {
            let Some(shared) = self.shared.upgrade() else { return Ok(()) };
            if let Err(error) = shared.devices_changed().await {
                tracing::error!(%error, "cannot read which devices belong to the network");
                return Err(capnp::Error::failed(error.to_string()));
            }
            Ok(())
        })
        .await
    }

    async fn ping(
        self: Rc<Self>,
        _: index_subscriber::PingParams,
        _: index_subscriber::PingResults,
    ) -> std::result::Result<(), capnp::Error> {
        Ok(())
    }

    async fn goodbye(
        self: Rc<Self>,
        params: index_subscriber::GoodbyeParams,
        _: index_subscriber::GoodbyeResults,
    ) -> std::result::Result<(), capnp::Error> {
        contained(async move {
            if let Some(shared) = self.shared.upgrade() {
                let reason = wire::error::reason(params.get()?.get_reason())?;
                *shared.farewell.borrow_mut() = Some(reason);
            }
            Ok(())
        })
        .await
    }
}

/// Waits for gpmd's answer, at most [`ANSWER`].
pub(super) async fn answered<T>(
    promise: impl Future<Output = std::result::Result<T, capnp::Error>>,
) -> Result<T> {
    match timeout(ANSWER, promise).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(Error::new(Code::Overloaded, "gpmd does not answer: it is suspended or overloaded")
            .with_help("run `gvm doctor` to find out which")),
    }
}

pub(super) fn failed(error: capnp::Error) -> Error {
    wire::error::from_capnp(error, "gpmd", Code::GpmdNotRunning)
}
