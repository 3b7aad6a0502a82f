//! One connection to each other device of the network; in a large network, to the neighbours that gossip chooses and to devices
//! that something asks now.
//!
//! In: the roster, addresses, connections that other devices open. Out: who is up, since when, and the means to ask them.
//! Must not know: what devices tell each other (`tell`, `device`), how TLS proves their keys.
//!
//! Both devices dial. If both reach each other at the same time, the connection of the device with the lower key stays. A
//! connection that is alive is never replaced: a second one waits until the first has answered a ping, or has not.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::device::{Device, ReadIndex, Told};
use super::known::MOST;
use super::payload::Said;
use super::presence::Nodes;
use super::tell;
use super::{Network, dial, gossip};
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;
use crate::daemon::server::{State, now_ms};
use crate::daemon::stop::Step;
use crate::modules::index::Index;
use crate::trust::key::PublicKey;
use crate::trust::relay::Relay;
use crate::wire;
use crate::wire::pulse::Pace;
use crate::wire::rpc::{Connection, Grip, MessageLimits, Side};
use crate::wire::schema::device_capnp::{device, device_door, device_hello, met};
use crate::wire::schema::hello_capnp::PROTOCOL;
use crate::wire::transport::{Address, Place};

/// The first and the longest time between the beginnings of two attempts to reach a device.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long an attempt may take; every fourth one has more time, for slow connections.
const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(6);

/// How long an attempt may take that may need a tunnel: a relay, and handshakes across the world.
const LONGEST_DIAL: Duration = Duration::from_secs(15);

/// How long the other device may take to answer a greeting.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a connection may take to show that it is alive when there is another one.
const PROBE: Duration = Duration::from_secs(2);

/// How often to measure the round trip.
const MEASURE: Duration = Duration::from_secs(10);

/// How long a device that was removed may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a connection stays after it was used, in a large network.
const UNUSED: Duration = Duration::from_secs(60);

/// How long a connection is kept that nothing has used, such as one to a device that could have become a neighbour.
const YOUNG: Duration = Duration::from_secs(10);

/// How often to look for connections that are not needed.
const LOOK: Duration = Duration::from_secs(5);

/// The most announced addresses of a device that are tried.
const MOST_ANNOUNCED: usize = 4;

/// The longest version of another device's program that is kept, in bytes.
const MAX_VERSION: usize = 64;

/// Another device of the network.
pub struct Other {
    pub key: PublicKey,
    pub id: DeviceId,
    link: RefCell<Option<Rc<Link>>>,
    /// When it came up or went down, in milliseconds since 1970.
    pub since_ms: Cell<i64>,
    /// Why it cannot be reached.
    pub problem: RefCell<Option<String>>,
    /// Where it was announced last. Anybody can announce anything, so these are not stored and are tried last.
    announced: RefCell<Vec<SocketAddr>>,
    /// Whether a connection that this device dialled waits for the greeting.
    meeting: Cell<bool>,
    /// Woken when a connection begins or ends.
    changed: Notify,
    dialling: RefCell<Option<AbortOnDropHandle<()>>>,
    /// Woken when it may have become a device that this one keeps a connection to.
    redirected: Notify,
    /// One attempt at a time to reach it, in a large network.
    turn: tokio::sync::Mutex<()>,
    /// How many things use the connection now, and when the last one ended.
    uses: Cell<u32>,
    used: Cell<Option<Instant>>,
    /// Whether gossip says that it is up, and what it says of itself there.
    gossiped: Cell<bool>,
    pub said: RefCell<Option<Rc<Said>>>,
    /// Whether it was up when that was looked at last.
    was_up: Cell<bool>,
    /// The index of its modules, as it was read last.
    index: RefCell<ReadIndex>,
}

/// Keeps the connection to a device in a large network.
pub struct Use(Rc<Other>);

impl Drop for Use {
    fn drop(&mut self) {
        self.0.uses.set(self.0.uses.get().saturating_sub(1));
        self.0.used.set(Some(Instant::now()));
    }
}

/// A connection to another device.
pub struct Link {
    number: u64,
    pub device: device::Client,
    grip: Grip,
    /// Where the other end is.
    pub at: Place,
    /// Whether this device dialled, so that `at` can be dialled again.
    pub is_dialled: bool,
    /// The version of the other device's program.
    pub version: String,
    pub told: Rc<Told>,
    pub round_trip: Cell<Option<Duration>>,
    begun: Instant,
}

impl Link {
    /// Ends the connection at once.
    pub fn end(&self) {
        self.grip.give_up();
    }
}

impl Other {
    fn new(key: PublicKey) -> Other {
        Other {
            key,
            id: key.id(),
            link: RefCell::default(),
            since_ms: Cell::new(now_ms()),
            problem: RefCell::default(),
            announced: RefCell::default(),
            meeting: Cell::new(false),
            changed: Notify::new(),
            dialling: RefCell::default(),
            redirected: Notify::new(),
            turn: tokio::sync::Mutex::default(),
            uses: Cell::default(),
            used: Cell::default(),
            gossiped: Cell::default(),
            said: RefCell::default(),
            was_up: Cell::default(),
            index: RefCell::default(),
        }
    }

    /// Returns the connection, if there is one that has not ended.
    pub fn link(&self) -> Option<Rc<Link>> {
        self.link.borrow().clone().filter(|link| !link.grip.is_closed())
    }

    /// Returns whether the device is up: it is connected, or gossip says so.
    pub fn is_up(&self) -> bool {
        self.gossiped.get() || self.link().is_some()
    }

    /// Returns the nodes of the device as far as they are known; `None` while it is down.
    pub fn nodes(&self) -> Option<Rc<Nodes>> {
        let link = self.link();
        let said = || Some(self.said.borrow().as_ref()?.nodes.clone());
        match link {
            Some(link) if link.told.has_told_nodes() => Some(link.told.nodes()),
            None if !self.gossiped.get() => None,
            _ => Some(said().unwrap_or_default()),
        }
    }

    /// Returns whether the connection has told all nodes of the device.
    pub fn has_told_nodes(&self) -> bool {
        self.link().is_some_and(|link| link.told.has_told_nodes())
    }

    /// Returns the index of its modules, as it was read last.
    pub fn index(&self) -> Arc<Index> {
        match self.link() {
            Some(link) if link.told.index().revision != 0 => link.told.index(),
            _ => self.index.borrow().index.clone(),
        }
    }

    /// Keeps the index of its modules for the time without a connection.
    pub fn keep_index(&self, read: ReadIndex) {
        *self.index.borrow_mut() = read;
        self.heard();
    }

    /// Wakes those who wait for something that the device tells.
    pub fn heard(&self) {
        self.changed.notify_waiters();
    }

    /// Notes what gossip says of the device.
    pub fn gossip_says(&self, is_up: bool, said: Option<Rc<Said>>) {
        self.gossiped.set(is_up);
        *self.said.borrow_mut() = said;
        self.settle_up();
    }

    /// Notes when the device came up or went down.
    fn settle_up(&self) {
        if self.was_up.replace(self.is_up()) != self.is_up() {
            self.since_ms.set(now_ms());
        }
    }

    /// Keeps the connection while the result lives, and for a while after.
    pub fn begin_use(self: &Rc<Self>) -> Use {
        self.uses.set(self.uses.get() + 1);
        Use(self.clone())
    }

    /// Waits until something is the case that the device tells. Returns whether it is.
    pub async fn until(&self, most: Duration, is_so: impl Fn() -> bool) -> bool {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if is_so() {
                    return;
                }
                changed.await;
            }
        };
        timeout(most, wait).await.is_ok()
    }

    /// Waits until there is a connection.
    pub async fn linked(&self) -> Rc<Link> {
        loop {
            let changed = self.changed.notified();
            if let Some(link) = self.link() {
                return link;
            }
            changed.await;
        }
    }
}

impl Network {
    /// Returns the other devices, in no order.
    pub fn others(&self) -> Vec<Rc<Other>> {
        self.others.borrow().values().cloned().collect()
    }

    /// Returns another device.
    pub fn other(&self, id: &DeviceId) -> Option<Rc<Other>> {
        self.others.borrow().get(id).cloned()
    }

    /// Returns the addresses at which another device can be dialled, best first.
    pub fn reach(&self, other: &Other) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = Vec::new();
        let add = |all: &mut Vec<SocketAddr>, at: SocketAddr| {
            if !all.contains(&at) && all.len() < MOST {
                all.push(at);
            }
        };
        if let Some(link) = other.link() {
            let told = link.told.addresses();
            match (link.at, link.is_dialled) {
                (Place::Port(at), true) => add(&mut all, at),
                (Place::Port(from), false) => {
                    let same = told.iter().filter(|at| at.ip() == from.ip());
                    same.for_each(|at| add(&mut all, *at));
                }
                (Place::Tunnel, _) => {}
            }
            told.into_iter().for_each(|at| add(&mut all, at));
        }
        self.known.borrow().of(&other.id).iter().for_each(|at| add(&mut all, *at));
        let announced = other.announced.borrow();
        let new: Vec<SocketAddr> = announced.iter().filter(|at| !all.contains(at)).copied().collect();
        all.extend(new);
        all
    }

    /// Returns every way to another device, best first. A tunnel comes last, unless it is known that nothing else
    /// works.
    pub fn ways(&self, other: &Other) -> Vec<Address> {
        let direct = self.reach(other).into_iter().map(Address::Tcp);
        let tunnel = self.tunnels().map(|tunnels| tunnels.address(other.id));
        let is_tunnel_best = other.link().is_some_and(|link| match link.at {
            Place::Tunnel => true,
            // It comes from an address that is not its own: it is behind a NAT.
            Place::Port(from) => {
                !link.is_dialled && link.told.addresses().iter().all(|at| at.ip() != from.ip())
            }
        });
        match is_tunnel_best {
            true => tunnel.into_iter().chain(direct).collect(),
            false => direct.chain(tunnel).collect(),
        }
    }

    /// Notes where a device is met.
    pub fn meets(&self, device: DeviceId, relay: Option<&Relay>) {
        let Some(other) = self.other(&device) else { return };
        if self.known.borrow_mut().meets(device, relay) {
            self.store_known();
            if let Some(tunnels) = self.tunnels() {
                tunnels.meets(self.met(other.key));
            }
            other.changed.notify_waiters();
        }
    }

    /// Stores the addresses of other devices, in the background.
    fn store_known(&self) {
        let (known, home) = (self.known.borrow().clone(), self.home.clone());
        drop(tokio::task::spawn_blocking(move || {
            if let Err(error) = known.write(&home) {
                tracing::warn!(%error, "cannot store the addresses of other devices");
            }
        }));
    }

    /// Notes an address that worked.
    pub fn worked(&self, device: DeviceId, at: SocketAddr) {
        if self.known.borrow_mut().worked(device, at) {
            self.store_known();
        }
    }

    /// Notes addresses of a device that a third one tells, and dials it again soon.
    pub fn hinted(&self, device: DeviceId, addresses: &[SocketAddr]) {
        let Some(other) = self.other(&device) else { return };
        if self.known.borrow_mut().hinted(device, addresses) {
            self.store_known();
            other.changed.notify_waiters();
        }
    }

    /// Notes addresses at which somebody announces a device.
    pub fn announced(&self, device: DeviceId, addresses: &[SocketAddr]) {
        if let Some(other) = self.other(&device) {
            *other.announced.borrow_mut() = addresses.iter().take(MOST_ANNOUNCED).copied().collect();
        }
    }

    /// Returns what third devices may be told: the addresses that each device has told over a connection that is up, and its
    /// relay.
    pub fn reachable(&self) -> Vec<Reachable> {
        let others = self.others().into_iter();
        let up = others.filter_map(|other| {
            let told = &other.link()?.told;
            Some(Reachable { device: other.id, addresses: told.addresses(), relay: told.relay() })
        });
        let mut up: Vec<_> = up.filter(|up| !up.addresses.is_empty() || up.relay.is_some()).collect();
        up.sort_by_key(|up| up.device);
        up
    }

    /// Notes the addresses that a device tells.
    pub fn told_addresses(&self, device: DeviceId, addresses: &[SocketAddr]) {
        if self.known.borrow_mut().told(device, addresses) {
            self.store_known();
        }
    }
}

/// Where a device can be reached, as third devices are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reachable {
    pub device: DeviceId,
    pub addresses: Vec<SocketAddr>,
    pub relay: Option<Relay>,
}

/// Follows the roster: dials devices that are new in it, and disconnects those that are gone. Returns when these have been
/// told, or did not answer.
pub async fn settle(state: &Rc<State>) {
    let network = &state.network;
    let known = network.devices.now();
    let own = known.own();
    let keys: Vec<PublicKey> = known.all().map(|device| device.key).filter(|key| Some(*key) != own).collect();
    let gone: Vec<Rc<Other>> = {
        let mut others = network.others.borrow_mut();
        let gone = others.extract_if(|_, other| !keys.contains(&other.key));
        gone.map(|(_, other)| other).collect()
    };
    network.others().iter().for_each(|other| other.redirected.notify_one());
    for key in keys {
        let mut others = network.others.borrow_mut();
        others.entry(key.id()).or_insert_with(|| {
            let other = Rc::new(Other::new(key));
            let dialling = tokio::task::spawn_local(follow(state.clone(), other.clone()));
            *other.dialling.borrow_mut() = Some(AbortOnDropHandle::new(dialling));
            other
        });
    }
    if let Some(tunnels) = network.tunnels() {
        tunnels.settle();
        for other in network.others() {
            tunnels.meets(network.met(other.key));
        }
    }
    let farewells = gone.into_iter().map(|other| async move {
        drop(other.dialling.borrow_mut().take());
        let Some(link) = other.link() else { return };
        let told = timeout(FAREWELL, tell::roster(network, &link.device)).await;
        tracing::info!(device = %other.id, told = matches!(told, Ok(Ok(()))), "a device was removed");
        link.grip.close();
    });
    join_all(farewells).await;
    let others: Vec<DeviceId> = network.others.borrow().keys().copied().collect();
    network.known.borrow_mut().retain(|device| others.contains(device));
}

/// Returns the names of the devices that are connected, sorted.
pub fn connected(state: &Rc<State>) -> Vec<Name> {
    let known = state.network.devices.now();
    let up = state.network.others().into_iter().filter(|other| other.link().is_some());
    let mut names: Vec<Name> =
        up.filter_map(|other| known.get(&other.id).map(|device| device.name.clone())).collect();
    names.sort();
    names
}

/// Dials a device whenever there is no connection to it.
async fn follow(state: Rc<State>, other: Rc<Other>) {
    let (mut pause, mut tries) = (FIRST_PAUSE, 0_u32);
    while !state.stop.is_asked() {
        if !state.network.is_direct(&other.id) {
            tokio::select! {
                () = state.stop.reach(Step::Asked) => return,
                () = other.redirected.notified() => continue,
            }
        }
        let begun = Instant::now();
        tokio::select! {
            () = state.stop.reach(Step::Asked) => return,
            link = other.linked() => {
                link.grip.closed().await;
                (pause, tries) = (FIRST_PAUSE, 0);
                // The task of the connection notes its end.
                tokio::task::yield_now().await;
                continue;
            }
            met = reach(&state, &other, tries) => {
                tries += 1;
                if let Err(error) = met {
                    tracing::debug!(device = %other.id, %error, "cannot reach a device");
                    // The device is connected, or about to be, by a connection of its own.
                    if error.code() != Code::Overloaded {
                        *other.problem.borrow_mut() = Some(error.message().to_owned());
                    }
                }
            }
        }
        tokio::select! {
            () = sleep_until(begun + pause) => {}
            () = other.changed.notified() => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Returns the connection to a device. In a large network, opens one if there is none.
///
/// # Errors
/// `DEVICE_DOWN`, and others that say why it cannot be reached.
pub async fn need(state: &Rc<State>, other: &Rc<Other>) -> Result<Rc<Link>> {
    let down = || Error::new(Code::DeviceDown, "the device is not connected");
    if state.network.is_direct(&other.id) || state.stop.is_asked() {
        return other.link().ok_or_else(down);
    }
    if let Some(link) = other.link() {
        return Ok(link);
    }
    let _turn = other.turn.lock().await;
    if let Some(link) = other.link() {
        return Ok(link);
    }
    let reached = reach(state, other, 0).await;
    match reached {
        Ok(()) => other.link().ok_or_else(down),
        // The other device dials too, and its connection stays.
        Err(error) if error.code() == Code::Overloaded => {
            timeout(ANSWER, other.linked()).await.map_err(|_| down())
        }
        Err(error) => {
            *other.problem.borrow_mut() = Some(error.message().to_owned());
            Err(error)
        }
    }
}

/// Returns whether this device needs the connection to another one.
pub fn is_needed(network: &Network, other: &Other) -> bool {
    let is_recent = other.used.get().is_some_and(|used| used.elapsed() < UNUSED);
    let is_young = other.link().is_some_and(|link| link.begun.elapsed() < YOUNG);
    network.is_direct(&other.id)
        || other.uses.get() > 0
        || is_recent
        || is_young
        || network.gossips_with(&other.key)
}

/// Ends connections that neither side needs, in a large network. The side that dialled does it. Does not end.
pub async fn release(state: &Rc<State>) {
    loop {
        sleep(LOOK).await;
        for other in state.network.others() {
            let Some(link) = other.link().filter(|link| link.is_dialled) else { continue };
            if is_needed(&state.network, &other) {
                continue;
            }
            let answer = timeout(PROBE, link.device.release_request().send().promise).await;
            let is_busy = match answer {
                Ok(Ok(answer)) => answer.get().is_ok_and(|answer| answer.get_busy()),
                _ => false,
            };
            if !is_busy && !is_needed(&state.network, &other) {
                tracing::debug!(device = %other.id, "a connection is not needed any more");
                link.grip.close();
            }
        }
    }
}

/// Dials a device and meets it.
async fn reach(state: &Rc<State>, other: &Rc<Other>, tries: u32) -> Result<()> {
    let network = &state.network;
    let tls = network.tls_to(other.key)?;
    let within = if tries % 4 == 3 { LONG } else { SHORT };
    // A tunnel comes last, and takes its time.
    let within = if network.tunnels().is_some() { LONGEST_DIAL } else { within };
    let (transport, at) = dial::reach(&network.ways(other), &tls, within).await?;
    let connection = Connection::start(transport, Side::Dialled, MessageLimits::CONTROL, None);
    if other.link().is_some() {
        connection.finish().await;
        return Ok(());
    }
    let told = Rc::new(Told::default());
    let _meeting = Meeting::begin(other);
    let mut request = connection.first::<device_door::Client>().meet_request();
    write_hello(network, request.get().init_hello());
    request.get().set_device(capnp_rpc::new_client(Device::new(state, other, &told)));
    let answer = timeout(ANSWER, request.send().promise).await;
    let place = match &at {
        Address::Tcp(at) => Place::Port(*at),
        _ => Place::Tunnel,
    };
    let answer = answer.map_err(|_| Error::new(Code::DeviceDown, format!("no answer from {place}")))?;
    let answer = answer.map_err(|error| match error.kind {
        // The other side's TLS refuses a key only after this side's handshake.
        capnp::ErrorKind::Disconnected | capnp::ErrorKind::Failed => Error::new(
            Code::DeviceDown,
            format!("the device at {place} does not accept this one: its roster may not have this device"),
        ),
        _ => wire::error::from_capnp(error, "the device", Code::DeviceDown),
    })?;
    let failed = |error: capnp::Error| wire::error::from_capnp(error, "the device", Code::DeviceDown);
    match answer.get().map_err(failed)?.which().map_err(|error| failed(error.into()))? {
        met::Ok(ok) => {
            let version = read_hello(network, ok.get_hello().map_err(failed)?)?;
            let link = Link {
                number: network.next_link(),
                device: ok.get_device().map_err(failed)?,
                grip: connection.grip(),
                at: place,
                is_dialled: true,
                version,
                told,
                round_trip: Cell::default(),
                begun: Instant::now(),
            };
            if let Place::Port(at) = place {
                network.worked(other.id, at);
            }
            install(state, other, link, Some(connection));
            Ok(())
        }
        met::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
    }
}

/// Marks that a connection of this device waits for the greeting.
struct Meeting<'a>(&'a Other);

impl Meeting<'_> {
    fn begin(other: &Other) -> Meeting<'_> {
        other.meeting.set(true);
        Meeting(other)
    }
}

impl Drop for Meeting<'_> {
    fn drop(&mut self) {
        self.0.meeting.set(false);
    }
}

/// What a device that dialled says when it meets this one.
pub struct Arrival {
    pub key: PublicKey,
    pub at: Place,
    pub grip: Grip,
    pub device: device::Client,
    pub version: String,
}

/// Meets a device that dialled. Returns its capability.
///
/// # Errors
/// `AUTH_FAILED` if it does not belong to the network; `OVERLOADED` if there is another connection that stays.
pub async fn accept(state: &Rc<State>, arrival: Arrival) -> Result<device::Client> {
    let network = &state.network;
    let id = arrival.key.id();
    let stranger = || Error::new(Code::AuthFailed, "this device does not belong to the network");
    let other = network.other(&id).ok_or_else(stranger)?;
    let busy = |sentence: &'static str| Err(Error::new(Code::Overloaded, sentence));
    if let Some(link) = other.link() {
        if is_alive(&link).await {
            return busy("the two devices are connected already");
        }
        tracing::info!(device = %id, "an earlier connection of a device is dead");
        link.grip.give_up();
        link.grip.closed().await;
    }
    let own = network.key().public();
    if other.meeting.get() && own < arrival.key {
        return busy("the two devices dial each other, and the other connection stays");
    }
    // While the earlier connection was asked, the device may have been removed, or have connected.
    let other = network.other(&id).ok_or_else(stranger)?;
    if other.link().is_some() {
        return busy("the two devices are connected already");
    }
    let told = Rc::new(Told::default());
    let offered = capnp_rpc::new_client(Device::new(state, &other, &told));
    let Arrival { at, grip, device, version, .. } = arrival;
    let link = Link {
        number: network.next_link(),
        device,
        grip,
        at,
        is_dialled: false,
        version,
        told,
        round_trip: Cell::default(),
        begun: Instant::now(),
    };
    install(state, &other, link, None);
    Ok(offered)
}

/// Returns whether a connection answers a ping.
async fn is_alive(link: &Link) -> bool {
    let ping = link.device.ping_request().send().promise;
    matches!(timeout(PROBE, ping).await, Ok(Ok(_)))
}

/// Begins to use a connection.
fn install(state: &Rc<State>, other: &Rc<Other>, link: Link, connection: Option<Connection>) {
    tracing::info!(device = %other.id, at = %link.at, "connected to a device");
    let link = Rc::new(link);
    *other.link.borrow_mut() = Some(link.clone());
    *other.problem.borrow_mut() = None;
    let is_direct = state.network.is_direct(&other.id);
    // In a large network the same revision is taken for the same index: connections come and go.
    link.told.begin_index(other.index.borrow().clone(), !is_direct);
    if is_direct {
        other.since_ms.set(now_ms());
        other.was_up.set(true);
    } else {
        other.settle_up();
    }
    other.changed.notify_waiters();
    state.network.changed();
    let (state, other) = (state.clone(), other.clone());
    tokio::task::spawn_local(async move {
        serve(&state, &other, &link).await;
        let is_current = other.link.borrow().as_ref().is_some_and(|known| known.number == link.number);
        if is_current {
            let gone = other.link.borrow_mut().take();
            drop(gone);
            gossip::lost(&state, &other.key);
            if state.network.is_direct(&other.id) {
                other.since_ms.set(now_ms());
                other.was_up.set(false);
            } else {
                other.settle_up();
            }
        }
        tracing::info!(device = %other.id, "the connection to a device has ended");
        other.changed.notify_waiters();
        state.network.changed();
        drop(connection);
    });
}

/// Uses a connection until it ends or gpmd stops.
async fn serve(state: &Rc<State>, other: &Other, link: &Rc<Link>) {
    let device = link.device.clone();
    let _watch = link.grip.watcher().watch_at(Pace::DEVICES, move || device.ping_request().send().promise);
    let closed = link.grip.closed();
    tokio::pin!(closed);
    tokio::select! {
        why = &mut closed => tracing::debug!(device = %other.id, ?why, "a connection was closed"),
        () = state.stop.reach(Step::Closes) => {
            link.grip.close();
            closed.await;
        }
        // These do not end.
        () = tell::follow(state, other, link) => {}
        () = measure(link) => {}
        () = link.told.follow_index(other, link) => {}
    }
}

/// Measures the round trip from time to time. Does not end.
async fn measure(link: &Link) {
    loop {
        let begun = Instant::now();
        if link.device.ping_request().send().promise.await.is_ok() {
            link.round_trip.set(Some(begun.elapsed()));
        }
        sleep(MEASURE).await;
    }
}

/// Writes the greeting of this device.
pub fn write_hello(network: &Network, mut to: device_hello::Builder<'_>) {
    to.set_protocol(PROTOCOL);
    to.set_version(env!("CARGO_PKG_VERSION"));
    to.set_network(network.roster.borrow().founder().bytes());
}

/// Reads and checks the greeting of another device. Returns the version of its program.
///
/// # Errors
/// `VERSION_MISMATCH`; `AUTH_FAILED` if it belongs to another network.
pub fn read_hello(network: &Network, from: device_hello::Reader<'_>) -> Result<String> {
    let failed = |error: capnp::Error| Error::new(Code::AuthFailed, format!("an invalid greeting: {error}"));
    let version = String::from_utf8_lossy(from.get_version().map_err(failed)?.as_bytes())
        .chars()
        .filter(|character| !character.is_control())
        .take(MAX_VERSION)
        .collect::<String>();
    check_protocol(from.get_protocol(), &version)?;
    if from.get_network().map_err(failed)? != network.roster.borrow().founder().bytes() {
        return Err(Error::new(Code::AuthFailed, "the other device belongs to another network"));
    }
    Ok(version)
}

/// Checks the number of the protocol of another device.
///
/// # Errors
/// `VERSION_MISMATCH`.
pub fn check_protocol(protocol: u16, version: &str) -> Result<()> {
    if protocol == PROTOCOL {
        return Ok(());
    }
    let own = env!("CARGO_PKG_VERSION");
    let sentence = format!(
        "the other device (version {version}) speaks protocol {protocol}, this one (version {own}) speaks {PROTOCOL}"
    );
    Err(Error::new(Code::VersionMismatch, sentence).with_help(wire::error::SAME_RELEASE))
}
