//! The handler of nodes: register, discover, look up, subscribe to the index, certify.
//!
//! In: requests of nodes. Out: the registry's answers; notifications to subscribers when the index changes.
//! Must not know: how connections are accepted and closed. A registration ends when its capability is
//! dropped, which also happens when its connection ends.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::connections::Greeted;
use super::network::{fetch, names};
use super::registry::{Registered, Token};
use super::server::{State, now_ms};
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::id::{Hash, MAX_NAME, Name, parse_version};
use crate::base::node::{Applicant, NodeInfo, Secret};
use crate::gpmd::changes;
use crate::modules::index::Change;
use crate::trust::certificate::{NodeIdentity, certify};
use crate::trust::key::PublicKey;
use crate::wire::rpc::{Grip, Offered, contained};
use crate::wire::schema::gpmd_capnp::{
    index_subscriber, registration, registry, registry_door, subscription,
};
use crate::wire::{error, hello, unix};

/// How long the acknowledgement of a change waits for a subscriber. A node answers within milliseconds; a
/// stopped node must not delay an upload.
const SUBSCRIBER: Duration = Duration::from_secs(1);

/// The most addresses of a node: its socket, its port, and room for more kinds.
const MOST_ADDRESSES: usize = 4;

/// How much longer the address of a node may be than the path of the home: the kind, the folder, the name of a socket.
const LONGER: usize = 128;

/// How long after the end of a registration the node's socket is removed if nobody listens there.
const TIDY: Duration = Duration::from_secs(1);

/// How many announcements in a row a subscriber may leave unacknowledged. Then its connection is closed.
const MOST_MISSED: u32 = 2;

/// The most names of an accept policy that are kept, and the characters of the longest one: two names and a character.
const MOST_ACCEPTS: usize = 256;
const MAX_PATTERN: usize = 2 * MAX_NAME + 1;

/// Makes the first capability of the socket and port for nodes.
pub fn offer(state: &Rc<State>, greeted: Greeted) -> Offered {
    let greeter = Greeter { state: state.clone(), greeted };
    capnp_rpc::new_client::<registry_door::Client, _>(greeter).client
}

/// Checks the greeting, then offers [`Registry`].
struct Greeter {
    state: Rc<State>,
    greeted: Greeted,
}

impl registry_door::Server for Greeter {
    async fn greet(
        self: Rc<Self>,
        params: registry_door::GreetParams,
        mut results: registry_door::GreetResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let mut answer = results.get();
            match self.greeted.pass(&self.state, params.get()?.get_hello()?) {
                Ok(hello) => {
                    let mut ok = answer.init_ok();
                    hello::write(&hello, ok.reborrow().init_hello());
                    let (state, greeted) = (self.state.clone(), self.greeted.clone());
                    ok.set_registry(capnp_rpc::new_client(Registry { state, greeted }));
                }
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }
}

struct Registry {
    state: Rc<State>,
    greeted: Greeted,
}

impl registry::Server for Registry {
    async fn register(
        self: Rc<Self>,
        params: registry::RegisterParams,
        mut results: registry::RegisterResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let mut answer = results.get();
            let asked = params.get()?;
            let applicant = hello::read_applicant(asked.get_node()?);
            let secret = Secret::read(asked.get_secret()?);
            let accepts = accepts(asked.get_accepts()?)?;
            let registered = applicant.and_then(|applicant| {
                check_addresses(&self.state, &applicant.addresses)?;
                let applicant = Applicant { accepts, ..applicant };
                let mut chance = || uuid::Uuid::new_v4().as_u64_pair().1;
                self.state.registry.borrow_mut().register(applicant, secret, now_ms(), &mut chance)
            });
            match registered {
                Ok(Registered { token, node, replaced }) => {
                    self.state.endings.begin(token);
                    replaced.into_iter().for_each(|token| self.state.endings.end(token));
                    self.state.network.changed();
                    tracing::info!(name = %node.name, id = %node.id, "a node registered");
                    let mut ok = answer.init_ok();
                    hello::write_node(&node, ok.reborrow().init_node());
                    ok.set_registration(capnp_rpc::new_client(Registration {
                        state: self.state.clone(),
                        token,
                    }));
                }
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn discover(
        self: Rc<Self>,
        params: registry::DiscoverParams,
        mut results: registry::DiscoverResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            names::discover(&self.state, params.get()?.get_begin(), results.get());
            Ok(())
        })
        .await
    }

    async fn look_up(
        self: Rc<Self>,
        params: registry::LookUpParams,
        mut results: registry::LookUpResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let name = params.get()?.get_name()?.to_string()?;
            names::look_up(&self.state, &name, results.get()).await;
            Ok(())
        })
        .await
    }

    async fn subscribe(
        self: Rc<Self>,
        params: registry::SubscribeParams,
        mut results: registry::SubscribeResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let client = params.get()?.get_subscriber()?;
            // Added before it is notified: a change in between is announced twice rather than never.
            let number = self.state.subscribers.add(client.clone(), self.greeted.grip());
            let mut subscription = Subscription { state: self.state.clone(), number, _watch: None };
            notify(&client, self.state.store.index().revision, None).await?;
            // From now on, a node that does not answer pings for some seconds is considered gone.
            subscription._watch = self.greeted.watch(move || client.ping_request().send().promise);
            results.get().set_subscription(capnp_rpc::new_client(subscription));
            Ok(())
        })
        .await
    }

    async fn find_module(
        self: Rc<Self>,
        params: registry::FindModuleParams,
        mut results: registry::FindModuleResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let asked = params.get()?;
            let name = asked.get_name()?.to_str()?.parse::<Name>();
            let version = match asked.has_version() {
                true => parse_version(asked.get_version()?.to_str()?).map(Some),
                false => Ok(None),
            };
            let found = match name.and_then(|name| Ok((name, version?))) {
                Ok((name, version)) => Ok(fetch::find(&self.state, &name, version.as_ref()).await),
                Err(refused) => Err(refused),
            };
            let mut answer = results.get();
            match found {
                Ok(hash) => answer.set_sha256(hash.as_ref().map_or(&[], |hash| &hash.0)),
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn other_modules(
        self: Rc<Self>,
        _: registry::OtherModulesParams,
        mut results: registry::OtherModulesResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            fetch::list(&self.state, results.get()).await;
            Ok(())
        })
        .await
    }

    async fn fetch_module(
        self: Rc<Self>,
        params: registry::FetchModuleParams,
        mut results: registry::FetchModuleResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let asked = params.get()?;
            let fetched = match (asked.get_sha256()?.try_into(), asked.get_device()?) {
                (Ok(hash), []) => fetch::fetch(&self.state, Hash(hash), None).await,
                (Ok(hash), device) => match device.try_into() {
                    Ok(device) => {
                        let from = Some(DeviceId(Hash(device)));
                        fetch::fetch(&self.state, Hash(hash), from).await
                    }
                    Err(_) => Err(Error::new(Code::BadArguments, "the id of a device has 32 bytes")),
                },
                (Err(_), _) => Err(Error::new(Code::BadArguments, "a SHA-256 has 32 bytes")),
            };
            let mut answer = results.get();
            match fetched {
                Ok(()) => answer.set_ok(()),
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn ping(
        self: Rc<Self>,
        _: registry::PingParams,
        _: registry::PingResults,
    ) -> Result<(), capnp::Error> {
        Ok(())
    }
}

/// Reads the names in a node's accept policy.
/// Checks that the addresses of a node are no longer than those that nodes of this home have.
///
/// # Errors
/// `LIMIT_EXCEEDED`.
fn check_addresses(state: &State, addresses: &[String]) -> Result<()> {
    let longest = state.home.path().as_os_str().len() + LONGER;
    match addresses.len() > MOST_ADDRESSES || addresses.iter().any(|address| address.len() > longest) {
        true => Err(Error::new(
            Code::LimitExceeded,
            format!("a node may have {MOST_ADDRESSES} addresses of at most {longest} bytes"),
        )),
        false => Ok(()),
    }
}

fn accepts(from: capnp::text_list::Reader<'_>) -> capnp::Result<Vec<String>> {
    let names = from.iter().take(MOST_ACCEPTS);
    names.map(|name| Ok(name?.to_str()?.chars().take(MAX_PATTERN).collect())).collect()
}

struct Registration {
    state: Rc<State>,
    token: Token,
}

impl Registration {
    /// Returns the node of this registration.
    fn node(&self) -> Result<NodeInfo> {
        let registry = self.state.registry.borrow();
        registry.get(self.token).cloned().ok_or_else(|| {
            Error::new(Code::AuthFailed, "this registration has ended because the node registered again")
        })
    }

    /// Certifies that the owner of this key is the node of this registration.
    fn certificate(&self, key: &[u8]) -> Result<Vec<u8>> {
        let node = self.node()?;
        let key = PublicKey::read(key)
            .ok_or_else(|| Error::new(Code::BadArguments, "the key of a node has 32 bytes"))?;
        let device = self.state.network.key();
        let identity =
            NodeIdentity { device: device.public().id(), name: node.name.bare().parse()?, life: node.life() };
        certify(device.secret(), &key, &identity, SystemTime::now())
    }
}

impl registration::Server for Registration {
    async fn certify(
        self: Rc<Self>,
        params: registration::CertifyParams,
        mut results: registration::CertifyResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let mut answer = results.get();
            match self.certificate(params.get()?.get_key()?) {
                Ok(certificate) => {
                    let mut ok = answer.init_ok();
                    ok.set_certificate(&certificate);
                    ok.set_device(self.state.network.key().public().bytes());
                }
                Err(refused) => error::write(&refused, answer.reborrow().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn ended(
        self: Rc<Self>,
        _: registration::EndedParams,
        _: registration::EndedResults,
    ) -> Result<(), capnp::Error> {
        // The wait must not keep the registration alive.
        let ending = self.state.endings.of(self.token);
        drop(self);
        if let Some(mut ending) = ending {
            // The sender is dropped when the registration ends.
            while ending.changed().await.is_ok() {}
        }
        Ok(())
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let gone = self.state.registry.borrow_mut().remove(self.token);
        self.state.endings.end(self.token);
        if let Some(node) = gone {
            self.state.network.changed();
            tracing::info!(name = %node.name, id = %node.id, "a registration ended");
            tidy(self.state.home.node_socket(node.id, node.incarnation));
        }
    }
}

/// Removes the socket of a node that was killed, a moment later: the kernel closes the files of a process one by one.
fn tidy(socket: PathBuf) {
    // gpmd itself may be ending.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        sleep(TIDY).await;
        drop(spawn_blocking(move || unix::remove_stale(&socket)));
    });
}

/// The registrations that have not ended, for the requests that wait for their ends. Belongs to the server's thread.
#[derive(Default)]
pub struct Endings(RefCell<HashMap<Token, watch::Sender<()>>>);

impl Endings {
    fn begin(&self, token: Token) {
        self.0.borrow_mut().insert(token, watch::Sender::new(()));
    }

    fn end(&self, token: Token) {
        let ended = self.0.borrow_mut().remove(&token);
        drop(ended);
    }

    /// Returns a receiver whose sender lives as long as the registration; none if it has ended.
    fn of(&self, token: Token) -> Option<watch::Receiver<()>> {
        self.0.borrow().get(&token).map(watch::Sender::subscribe)
    }
}

struct Subscription {
    state: Rc<State>,
    number: u64,
    /// Pings the subscriber as long as the subscription lives.
    _watch: Option<AbortOnDropHandle<()>>,
}

impl subscription::Server for Subscription {}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.state.subscribers.remove(self.number);
    }
}

/// The nodes that subscribe to changes of the index. Belongs to the server's thread.
#[derive(Default)]
pub struct Subscribers {
    all: RefCell<BTreeMap<u64, Rc<Subscriber>>>,
    last: Cell<u64>,
}

struct Subscriber {
    client: index_subscriber::Client,
    grip: Option<Grip>,
    /// The announcements in a row that it has not acknowledged in time.
    missed: Cell<u32>,
}

impl Subscriber {
    /// Notes whether an announcement was acknowledged. Returns whether the subscriber is to be kept: one that answers pings
    /// and acknowledges nothing would delay every upload.
    fn keeps(&self, acknowledged: bool) -> bool {
        self.missed.set(if acknowledged { 0 } else { self.missed.get() + 1 });
        let keeps = self.missed.get() < MOST_MISSED;
        if let Some(grip) = self.grip.as_ref().filter(|_| !keeps) {
            tracing::warn!("closed the connection of a node that does not acknowledge changes");
            grip.give_up();
        }
        keeps
    }
}

impl Subscribers {
    fn add(&self, client: index_subscriber::Client, grip: Option<Grip>) -> u64 {
        self.last.set(self.last.get() + 1);
        let subscriber = Rc::new(Subscriber { client, grip, missed: Cell::new(0) });
        self.all.borrow_mut().insert(self.last.get(), subscriber);
        self.last.get()
    }

    fn remove(&self, number: u64) {
        let gone = self.all.borrow_mut().remove(&number);
        drop(gone);
    }

    fn snapshot(&self) -> Vec<(u64, Rc<Subscriber>)> {
        self.all.borrow().iter().map(|(number, subscriber)| (*number, subscriber.clone())).collect()
    }

    /// Notifies all subscribers at the same time, and waits until they have read the index or their time is
    /// up. Removes a subscriber that answers with an error, and one that does not answer repeatedly.
    pub async fn announce(&self, change: &Change) {
        let (revision, change) = (change.revision, changes::Told::of(change));
        let change = change.as_ref();
        let sending = self.snapshot().into_iter().map(|(number, subscriber)| async move {
            let keeps = match notify(&subscriber.client, revision, change).await {
                Ok(acknowledged) => subscriber.keeps(acknowledged),
                Err(_) => false,
            };
            if !keeps {
                self.remove(number);
            }
        });
        join_all(sending).await;
    }

    /// Tells all subscribers that the devices of the network have changed, and waits until they have read the roster or
    /// their time is up. A node of an earlier version does not know this message.
    pub async fn devices_changed(&self) {
        let sending = self.snapshot().into_iter().map(|(number, subscriber)| async move {
            let answer = timeout(SUBSCRIBER, subscriber.client.devices_request().send().promise).await;
            let is_gone = matches!(&answer, Ok(Err(error)) if error.kind == capnp::ErrorKind::Disconnected);
            if is_gone || !subscriber.keeps(answer.is_ok()) {
                self.remove(number);
            }
        });
        join_all(sending).await;
    }

    /// Tells all subscribers that gpmd stops.
    pub async fn say_goodbye(&self, reason: &str) {
        let sending = self.snapshot().into_iter().map(|(_, subscriber)| async move {
            let mut request = subscriber.client.goodbye_request();
            request.get().set_reason(reason);
            let _ = timeout(SUBSCRIBER, request.send().promise).await;
        });
        join_all(sending).await;
    }
}

/// Notifies one subscriber. A slow answer is not an error.
async fn notify(
    client: &index_subscriber::Client,
    revision: u64,
    change: Option<&changes::Told>,
) -> Result<bool, capnp::Error> {
    let mut request = client.changed_request();
    request.get().set_revision(revision);
    if let Some(change) = change {
        change.write(request.get().init_change());
    }
    match timeout(SUBSCRIBER, request.send().promise).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) => Ok(true),
        Err(_) => Ok(false),
    }
}
