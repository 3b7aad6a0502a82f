//! Presence in a large network: drives the state machine of `gvm-gossip` over the connections between devices.
//!
//! In: the members of the network, connections, messages of other members, the time, what this device has. Out: messages to
//! neighbours, and to each known device what it says of itself and whether it is up. Must not know: how connections are made
//! (`links`), what a payload looks like (`payload`). Guests take no part: what is said here is for members.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gvm_gossip::{Config, Device, Event, Keys, Output, Presence, Setup};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::Network;
use super::links::{self, Other};
use super::payload::Said;
use super::presence::{Nodes, Present};
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::daemon::server::{State, now_ms};
use crate::daemon::stop::Step;
use crate::trust::device::DeviceKey;
use crate::trust::devices::Known;
use crate::trust::greeting::nonce;
use crate::trust::key::{PublicKey, Signature};
use crate::trust::roster::Role;

/// The most messages in one request, and their bytes: below the limit of a message.
pub const MOST_MESSAGES: usize = 64;
pub const MOST_BYTES: usize = 1 << 20;

/// The most messages that wait for one device.
const MOST_WAITING: usize = 1024;

/// The most neighbours of a device.
const NEIGHBOURS: usize = 6;

/// The most devices to connect to first.
const CONTACTS: usize = 8;

/// The time between two looks while there is nothing to do.
const REST: Duration = Duration::from_secs(3600);

/// The gossip of this device, in its network. Belongs to the server's thread.
pub struct Gossip {
    founder: PublicKey,
    own: PublicKey,
    presence: Presence<Signer>,
    begun: Instant,
    /// The devices that were there when it looked last.
    known: Arc<Known>,
    payload: Vec<u8>,
    /// Devices whose connections carry gossip.
    open: BTreeSet<Device>,
    queues: HashMap<Device, VecDeque<Vec<u8>>>,
}

struct Signer(Rc<DeviceKey>);

impl Keys for Signer {
    fn sign(&self, text: &[u8]) -> [u8; 64] {
        match self.0.secret().sign(text) {
            Ok(signature) => *signature.bytes(),
            Err(error) => {
                // Others refuse the record.
                tracing::error!(%error, "cannot sign");
                [0; 64]
            }
        }
    }

    fn verifies(&self, device: &Device, text: &[u8], signature: &[u8; 64]) -> bool {
        let known = PublicKey::read(&device.0).zip(Signature::read(signature));
        known.is_some_and(|(key, signature)| key.verifies(text, &signature))
    }
}

impl Network {
    /// Returns whether the connection to a device carries gossip.
    pub fn gossips_with(&self, key: &PublicKey) -> bool {
        let gossip = self.gossip.borrow();
        gossip.as_ref().is_some_and(|gossip| gossip.open.contains(&Device(*key.bytes())))
    }
}

/// Drives the gossip while the network is large, until gpmd stops.
pub async fn follow(state: Rc<State>) {
    let network = &state.network;
    let mut news = network.news.subscribe();
    let releasing = state.clone();
    let _releasing =
        AbortOnDropHandle::new(tokio::task::spawn_local(async move { links::release(&releasing).await }));
    settle(&state);
    loop {
        let next = network.gossip.borrow().as_ref().map(|gossip| gossip.begun + gossip.presence.next_tick());
        tokio::select! {
            () = state.stop.reach(Step::Asked) => {
                with(&state, |presence, now| presence.leave(now));
                return;
            }
            _ = news.changed() => settle(&state),
            () = network.woken.notified() => {}
            () = sleep_until(next.unwrap_or_else(|| Instant::now() + REST)) => {
                with(&state, |presence, now| presence.tick(now));
            }
        }
    }
}

/// Follows what has changed on this device: begins or ends the gossip, and tells it the members and what to say.
fn settle(state: &Rc<State>) {
    let network = &state.network;
    let known = network.devices.now();
    if !network.is_large() || state.stop.is_asked() {
        if network.gossip.borrow_mut().take().is_some() {
            network.others().iter().for_each(|other| other.gossip_says(false, None));
        }
        return;
    }
    let (founder, key) = (network.roster.borrow().founder(), network.key());
    let members = known.all().filter(|device| device.role == Role::Member);
    let members: BTreeSet<Device> = members.map(|device| Device(*device.key.bytes())).collect();
    let fits = |gossip: &Gossip| gossip.founder == founder && gossip.own == key.public();
    let is_new = !network.gossip.borrow().as_ref().is_some_and(fits);
    if is_new {
        let begun = Instant::now();
        let seed = nonce().map_or(0, |random| random.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        let config = Config { neighbours: network.small.clamp(2, NEIGHBOURS), ..Config::default() };
        let setup = Setup {
            network: *founder.bytes(),
            device: Device(*key.public().bytes()),
            incarnation: u64::try_from(now_ms()).unwrap_or_default(),
            contacts: contacts(network),
            seed,
            config,
        };
        let presence = Presence::new(setup, Signer(key.clone()), members.clone(), Duration::ZERO);
        tracing::info!(devices = members.len(), "the network is large: presence spreads by gossip");
        let (own, known) = (key.public(), known.clone());
        let (payload, open, queues) = Default::default();
        *network.gossip.borrow_mut() =
            Some(Gossip { founder, own, presence, begun, known, payload, open, queues });
    }
    let has_changed = network.gossip.borrow_mut().as_mut().is_some_and(|gossip| {
        let before = std::mem::replace(&mut gossip.known, known.clone());
        !Arc::ptr_eq(&before, &known)
    });
    if has_changed {
        with(state, |presence, now| presence.set_members(members, now));
    }
    let payload = said(state).encode();
    let is_news = network
        .gossip
        .borrow_mut()
        .as_mut()
        .is_some_and(|gossip| std::mem::replace(&mut gossip.payload, payload.clone()) != payload);
    if is_news {
        let set = with(state, |presence, now| presence.set_payload(payload, now));
        if let Some(Err(error)) = set {
            tracing::error!(%error, "this device cannot say what it has");
        }
    }
    network.woken.notify_one();
}

/// Returns the devices to connect to first: those that are connected, then others whose addresses are known.
fn contacts(network: &Network) -> Vec<Device> {
    let others = network.others().into_iter().filter(|other| network.are_members(&other.id));
    let mut others: Vec<Rc<Other>> = others.filter(|other| !network.reach(other).is_empty()).collect();
    // The last one is taken first.
    others.sort_by_key(|other| other.link().is_some());
    let from = others.len().saturating_sub(CONTACTS);
    others[from..].iter().map(|other| Device(*other.key.bytes())).collect()
}

/// Returns what this device says of itself.
fn said(state: &State) -> Said {
    let network = &state.network;
    let registry = state.registry.borrow();
    let nodes = registry.entries();
    let nodes =
        nodes.map(|(name, node, _)| (name.clone(), Present { life: node.life(), since_ms: node.since_ms }));
    let nodes: Nodes = nodes.collect();
    Said {
        version: env!("CARGO_PKG_VERSION").into(),
        addresses: network.addresses(),
        relay: network.tunnels().and_then(|tunnels| tunnels.told()),
        index: state.store.index().revision,
        count: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
        nodes: Rc::new(nodes),
    }
}

/// Calls the state machine, and returns its result and what is to be done.
fn call<T>(
    network: &Network,
    act: impl FnOnce(&mut Presence<Signer>, Duration) -> T,
) -> Option<(T, Vec<Output>)> {
    let mut gossip = network.gossip.borrow_mut();
    let gossip = gossip.as_mut()?;
    let result = act(&mut gossip.presence, gossip.begun.elapsed());
    let outputs = std::iter::from_fn(|| gossip.presence.output()).collect();
    Some((result, outputs))
}

/// Calls the state machine and does what it wants.
fn with<T>(state: &Rc<State>, act: impl FnOnce(&mut Presence<Signer>, Duration) -> T) -> Option<T> {
    let (result, outputs) = call(&state.network, act)?;
    for output in outputs {
        match output {
            Output::Send { to, bytes } => send(state, to, bytes),
            Output::Close(device) => close(&state.network, &device),
            Output::Event(event) => note(&state.network, event),
        }
    }
    state.network.woken.notify_one();
    Some(result)
}

/// The connection to a device carries no gossip any more. It ends when nothing else needs it.
fn close(network: &Network, device: &Device) {
    if let Some(gossip) = network.gossip.borrow_mut().as_mut() {
        gossip.open.remove(device);
    }
}

/// Notes what has become known of a device.
fn note(network: &Network, event: Event) {
    let device = match event {
        Event::Up { device, .. } | Event::Down { device } | Event::Changed { device } => device,
        Event::Superseded { incarnation } => {
            tracing::info!(incarnation, "the clock of this device was ahead before");
            return;
        }
    };
    let Some(other) = other(network, &device) else { return };
    let (is_up, said) = {
        let gossip = network.gossip.borrow();
        let Some(seen) = gossip.as_ref().and_then(|gossip| gossip.presence.device(&device)) else { return };
        (seen.up.is_some(), seen.payload.and_then(Said::decode))
    };
    tracing::debug!(device = %other.id, is_up, "gossip about a device");
    if let Some(said) = &said {
        network.told_addresses(other.id, &said.addresses);
        if said.relay.is_some() {
            network.meets(other.id, said.relay.as_ref());
        }
    }
    other.gossip_says(is_up, said.map(Rc::new));
    other.heard();
}

fn other(network: &Network, device: &Device) -> Option<Rc<Other>> {
    network.other(&PublicKey::read(&device.0)?.id())
}

/// Queues a message to a device.
fn send(state: &Rc<State>, to: Device, bytes: Vec<u8>) {
    let (is_first, is_full) = {
        let mut gossip = state.network.gossip.borrow_mut();
        let Some(gossip) = gossip.as_mut() else { return };
        let is_first = !gossip.queues.contains_key(&to);
        let queue = gossip.queues.entry(to).or_default();
        queue.push_back(bytes);
        (is_first, queue.len() > MOST_WAITING)
    };
    if is_full {
        // It does not take what it is sent.
        if let Some(link) = other(&state.network, &to).and_then(|other| other.link()) {
            link.end();
        }
        if let Some(queue) =
            state.network.gossip.borrow_mut().as_mut().and_then(|all| all.queues.get_mut(&to))
        {
            queue.clear();
        }
    }
    if is_first {
        let state = state.clone();
        drop(tokio::task::spawn_local(async move {
            let sent = deliver(&state, to).await;
            if let Some(gossip) = state.network.gossip.borrow_mut().as_mut() {
                gossip.queues.remove(&to);
            }
            if let Err(error) = sent {
                tracing::debug!(?to, %error, "cannot gossip with a device");
                disconnected(&state, to);
            }
        }));
    }
}

/// Sends what waits for a device, in order.
async fn deliver(state: &Rc<State>, to: Device) -> Result<()> {
    let network = &state.network;
    let next = || {
        let mut gossip = network.gossip.borrow_mut();
        let queue = gossip.as_mut()?.queues.get_mut(&to)?;
        let (mut size, mut batch) = (0, Vec::new());
        while let Some(message) = queue.front() {
            size += message.len();
            if !batch.is_empty() && (batch.len() == MOST_MESSAGES || size > MOST_BYTES) {
                break;
            }
            batch.extend(queue.pop_front());
        }
        (!batch.is_empty()).then_some(batch)
    };
    let down = || Error::new(Code::DeviceDown, "the device does not belong to the network");
    while let Some(batch) = next() {
        let other = other(network, &to).ok_or_else(down)?;
        let link = links::need(state, &other).await?;
        opened(state, to);
        let mut request = link.device.gossip_request();
        let mut list = request.get().init_messages(batch.len() as u32);
        for (place, message) in batch.iter().enumerate() {
            list.set(place as u32, message);
        }
        let sent = request.send().promise.await;
        sent.map_err(|error| crate::wire::error::from_capnp(error, "the other device", Code::DeviceDown))?;
    }
    Ok(())
}

/// The connection to a device carries gossip from now on.
fn opened(state: &Rc<State>, device: Device) {
    let is_new = state.network.gossip.borrow_mut().as_mut().is_some_and(|gossip| gossip.open.insert(device));
    if is_new {
        with(state, |presence, now| presence.connected(device, now));
    }
}

fn disconnected(state: &Rc<State>, device: Device) {
    close(&state.network, &device);
    with(state, |presence, now| presence.disconnected(device, now));
}

/// The connection to a device has ended.
pub fn lost(state: &Rc<State>, key: &PublicKey) {
    if state.network.gossips_with(key) {
        disconnected(state, Device(*key.bytes()));
    }
}

/// Takes messages of another member.
///
/// # Errors
/// `AUTH_FAILED` if no honest member sends them.
pub fn received(state: &Rc<State>, from: &DeviceId, messages: &[Vec<u8>]) -> Result<()> {
    let Some(other) = state.network.other(from) else { return Ok(()) };
    // The other device may know of more devices than this one, or this one may have just heard of it.
    settle_members(state);
    if state.stop.is_asked() || state.network.gossip.borrow().is_none() {
        return Ok(());
    }
    let device = Device(*other.key.bytes());
    opened(state, device);
    for message in messages {
        let taken = with(state, |presence, now| presence.received(device, message, now));
        if let Some(Err(malformed)) = taken {
            disconnected(state, device);
            return Err(Error::new(Code::AuthFailed, malformed.to_string()));
        }
    }
    Ok(())
}

fn settle_members(state: &Rc<State>) {
    let now = state.network.devices.now();
    let is_old = |gossip: &Gossip| !Arc::ptr_eq(&gossip.known, &now);
    let is_old = state.network.gossip.borrow().as_ref().is_none_or(is_old);
    if is_old {
        settle(state);
    }
}
