//! A node's side of gpmd: registered for as long as it lives, whatever happens to gpmd.
//!
//! In: who the node is. Out: its registration, who else there is, the index of modules, word when
//! gpmd is lost and when it is back. Must not know: what a node does.
//!
//! Belongs to the node's RPC thread. While gpmd is away the index is read from the home itself, and
//! the node registers again, under the same name and id, as soon as gpmd is back.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::route::{Route, not_running};
use super::witness::{Witness, looked_up};
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::id::{Applicant, Name, NodeInfo, Secret};
use crate::modules::index::Index;
use crate::modules::store::Reader;
use crate::wire;
use crate::wire::hello::{self, Hello};
use crate::wire::rpc::{Connection, MessageLimits, Side, contained};
use crate::wire::schema::gpmd_capnp::{
    index_subscriber, registered, registration, registry, registry_door, registry_greeting, subscription,
};

/// How long gpmd may take to answer. It answers within a millisecond; its disk may be slow.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// Between two attempts to find gpmd again: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Events that wait to be read. More are dropped: [`Link::is_up`] tells how things stand.
const EVENTS: usize = 16;

/// What happened to gpmd.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// gpmd is gone; why, where it said so.
    Lost(String),
    /// gpmd is back, and the node registered again.
    Back,
    /// gpmd is back and refuses to register the node again; it goes on asking.
    Refused(Error),
}

/// Told of the index as gpmd announces it, before gpmd acknowledges the change to whoever made it; told
/// none where it must be read from the home.
pub type Announced = Box<dyn Fn(Option<Arc<Index>>)>;

/// A node's registration. Dropping it ends the registration.
pub struct Link {
    shared: Rc<Shared>,
    watching: AbortHandle,
}

pub(super) struct Shared {
    home: Home,
    reach: Route,
    applicant: RefCell<Applicant>,
    /// By which gpmd knows this node again.
    secret: Secret,
    node: RefCell<NodeInfo>,
    /// While gpmd is there.
    pub(super) session: RefCell<Option<Session>>,
    index: RefCell<Reader>,
    announced: Announced,
    /// What gpmd said when it left.
    farewell: RefCell<Option<String>>,
}

pub(super) struct Session {
    registry: registry::Client,
    connection: Connection,
    // Held: dropping them ends what they stand for.
    pub(super) registration: registration::Client,
    subscription: subscription::Client,
}

impl Link {
    /// Finds gpmd and registers; `announced` has the index before this returns. gpmd is found again in
    /// the same way. To be called on a `LocalRuntime` or `LocalSet`.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING`, `NODE_NAME_TAKEN`, `VERSION_MISMATCH`, `AUTH_FAILED`, `OVERLOADED`.
    pub async fn connect(
        home: &Home,
        reach: Route,
        applicant: Applicant,
        announced: Announced,
    ) -> Result<(Link, mpsc::Receiver<Event>)> {
        // A node of no name until the registry has spoken.
        let node = NodeInfo {
            name: "unnamed".parse()?,
            id: applicant.life.id,
            incarnation: applicant.life.incarnation,
            address: applicant.addresses.first().cloned().unwrap_or_default(),
            addresses: applicant.addresses.clone(),
            since_ms: 0,
        };
        let shared = Rc::new(Shared {
            home: home.clone(),
            reach,
            applicant: RefCell::new(applicant),
            secret: Secret::random(),
            node: RefCell::new(node),
            session: RefCell::default(),
            index: RefCell::new(Reader::new(home)),
            announced,
            farewell: RefCell::default(),
        });
        open(&shared).await?;
        let (tell, events) = mpsc::channel(EVENTS);
        let watching = tokio::task::spawn_local(watch(shared.clone(), tell)).abort_handle();
        Ok((Link { shared, watching }, events))
    }

    /// The node as it is registered.
    pub fn node(&self) -> NodeInfo {
        self.shared.node.borrow().clone()
    }

    /// Whether gpmd is there.
    pub fn is_up(&self) -> bool {
        self.shared.session.borrow().is_some()
    }

    /// Every live node of the device, this one included, sorted by name.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn discover(&self) -> Result<Vec<NodeInfo>> {
        let request = self.shared.registry()?.discover_request();
        let answer = answered(request.send().promise).await?;
        let nodes = answer.get().and_then(|answer| answer.get_nodes()).map_err(failed)?;
        nodes.iter().map(hello::read_node).collect()
    }

    /// The live node of this name.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND`; `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn look_up(&self, name: &Name) -> Result<NodeInfo> {
        let mut request = self.shared.registry()?.look_up_request();
        request.get().set_name(name.as_str());
        let answer = answered(request.send().promise).await?;
        let which = answer.get().map_err(failed)?.which();
        looked_up(which.map_err(|error| failed(error.into()))?)
    }

    /// What vouches for this node, and for others, for as long as this link lives.
    pub fn witness(&self) -> Witness {
        Witness::of(self.shared.clone())
    }

    /// Ends the registration in order: once this returns the name is free again, if gpmd is there.
    pub async fn finish(self) {
        self.watching.abort();
        let session = self.shared.session.borrow_mut().take();
        if let Some(Session { registry, connection, registration, subscription }) = session {
            drop((registration, subscription));
            // Requests are served in order: once this one is answered, the others were heard.
            let _ = answered(registry.discover_request().send().promise).await;
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

    /// Lets go of a session that is over.
    fn forget(&self) {
        (self.announced)(None);
        let session = self.session.borrow_mut().take();
        drop(session);
    }
}

/// Notices when gpmd goes, and finds it again.
async fn watch(shared: Rc<Shared>, tell: mpsc::Sender<Event>) {
    loop {
        let session = shared.session.borrow().as_ref().map(|session| {
            (session.connection.closed(), session.registration.ended_request().send().promise)
        });
        if let Some((closed, ended)) = session {
            let ended = async {
                // A gpmd that does not tell it tells the end of the connection.
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
            }
        }
        shared.forget();
        let farewell = shared.farewell.borrow_mut().take();
        let why = farewell.unwrap_or_else(|| "connection lost".into());
        tracing::info!(why, "gpmd is gone");
        let _ = tell.try_send(Event::Lost(why));
        let mut wait = FIRST_WAIT;
        let mut refused = false;
        loop {
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            match open(&shared).await {
                Ok(()) => break,
                // Not there, or not answering: it may be stopped, or coming up.
                Err(error) if matches!(error.code(), Code::GpmdNotRunning | Code::Overloaded) => {}
                Err(error) => {
                    tracing::warn!(%error, "gpmd is back and refuses");
                    if !std::mem::replace(&mut refused, true) {
                        let _ = tell.try_send(Event::Refused(error));
                    }
                }
            }
        }
        tracing::info!("gpmd is back");
        let _ = tell.try_send(Event::Back);
    }
}

/// Connects, greets, registers and subscribes.
async fn open(shared: &Rc<Shared>) -> Result<()> {
    let transport = shared.reach.dial().await?;
    let connection = Connection::start(transport, Side::Dialled, MessageLimits::CONTROL, None);
    let (registry, _) = greet(&shared.home, &shared.reach, connection.first()).await?;
    let applicant = shared.applicant.borrow().clone();
    let (node, registration) = register(&registry, &applicant, shared.secret).await?;
    shared.applicant.borrow_mut().name = Some(node.name.clone());
    *shared.node.borrow_mut() = node;
    let subscriber = Subscriber { shared: Rc::downgrade(shared) };
    let mut request = registry.subscribe_request();
    request.get().set_subscriber(capnp_rpc::new_client(subscriber));
    let answer = answered(request.send().promise).await?;
    let subscription = answer.get().and_then(|answer| answer.get_subscription()).map_err(failed)?;
    let asked = registry.clone();
    connection.watch(move || asked.ping_request().send().promise);
    *shared.session.borrow_mut() = Some(Session { registry, connection, registration, subscription });
    Ok(())
}

/// Asks gpmd for its version and the live nodes, as a node would, and registers nothing. To be called on a
/// `LocalRuntime` or `LocalSet`.
///
/// # Errors
/// As of [`Link::connect`].
pub async fn look(home: &Home, reach: &Route) -> Result<(String, Vec<NodeInfo>)> {
    let connection = Connection::start(reach.dial().await?, Side::Dialled, MessageLimits::CONTROL, None);
    let (registry, version) = greet(home, reach, connection.first()).await?;
    let answer = answered(registry.discover_request().send().promise).await?;
    let nodes = answer.get().and_then(|answer| answer.get_nodes()).map_err(failed)?;
    Ok((version, nodes.iter().map(hello::read_node).collect::<Result<_>>()?))
}

async fn greet(
    home: &Home,
    reach: &Route,
    door: registry_door::Client,
) -> Result<(registry::Client, String)> {
    let mut request = door.greet_request();
    hello::write(&Hello::of(home.id()), request.get().init_hello());
    let answer = answered(request.send().promise).await;
    let answer = answer.map_err(|error| reach.another_door(error, "nodes"))?;
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
    let answer = answered(request.send().promise).await?;
    match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
        registered::Ok(ok) => {
            let node = hello::read_node(ok.get_node().map_err(failed)?)?;
            Ok((node, ok.get_registration().map_err(failed)?))
        }
        registered::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
    }
}

/// What gpmd tells: holds the link weakly, so that a dropped link is gone at once.
struct Subscriber {
    shared: std::rc::Weak<Shared>,
}

impl index_subscriber::Server for Subscriber {
    async fn changed(
        self: Rc<Self>,
        _: index_subscriber::ChangedParams,
        _: index_subscriber::ChangedResults,
    ) -> std::result::Result<(), capnp::Error> {
        contained(async move {
            let Some(shared) = self.shared.upgrade() else { return Ok(()) };
            let read = shared.index.borrow_mut().read();
            // What cannot be read is read again, and its error told, by whoever wants it.
            let unreadable = read.as_ref().err().map(Error::to_string);
            (shared.announced)(read.ok());
            if let Some(error) = unreadable {
                tracing::warn!(error, "the index cannot be read");
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

/// Waits for an answer of gpmd, as long as it may take.
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
