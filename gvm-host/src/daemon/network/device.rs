//! What another device of the network may ask of this one and tell it.
//!
//! In: requests over the connection between two devices. Out: answers; what the other device told. Must not know: how the
//! connection came to be, how it ends. What a guest may not do is refused here.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::known::MOST;
use super::links::{self, Link, Other};
use super::presence::{self, Nodes, Present};
use super::rate::Rate;
use super::{gossip, membership, remote};
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::id::{Hash, Name};
use crate::daemon::control_handler;
use crate::daemon::server::{State, ended};
use crate::gpmd::{bytes, changes};
use crate::modules::index::Index;
use crate::trust::relay::Relay;
use crate::trust::roster::Statement;
use crate::wire::error;
use crate::wire::hello;
use crate::wire::rpc::contained;
use crate::wire::schema::device_capnp::{device, index_news};
use crate::wire::transport::Address;

/// The largest index of another device that is read, in bytes.
const MOST_INDEX: u64 = 64 << 20;

/// How long to wait before an index that could not be read is read again.
const AGAIN: Duration = Duration::from_secs(5);

/// The index of another device, as it was read last.
#[derive(Clone, Debug, Default)]
pub struct ReadIndex {
    pub index: Arc<Index>,
    /// The number of the history that its revision belongs to.
    history: u64,
    /// The bytes that were read for it: all of an index, and the changes since.
    size: u64,
}

/// What another device told over one connection. Belongs to the server's thread.
pub struct Told {
    nodes: RefCell<Rc<Nodes>>,
    /// Whether it has told its nodes.
    has_told_nodes: Cell<bool>,
    addresses: RefCell<Vec<SocketAddr>>,
    relay: RefCell<Option<Relay>>,
    index: RefCell<ReadIndex>,
    /// Whether the index was read over this connection.
    has_read_index: Cell<bool>,
    /// The revision of its index; 0 if it may not be read.
    revision: watch::Sender<u64>,
    /// How much gossip it may send.
    rate: RefCell<Rate>,
    /// Held while its gossip is read.
    gossips: tokio::sync::Mutex<()>,
}

impl Default for Told {
    fn default() -> Told {
        Told {
            nodes: RefCell::default(),
            has_told_nodes: Cell::default(),
            addresses: RefCell::default(),
            relay: RefCell::default(),
            index: RefCell::default(),
            has_read_index: Cell::default(),
            revision: watch::Sender::new(0),
            rate: RefCell::new(Rate::new(std::time::Instant::now())),
            gossips: tokio::sync::Mutex::default(),
        }
    }
}

impl Told {
    /// Returns the nodes of the other device.
    pub fn nodes(&self) -> Rc<Nodes> {
        self.nodes.borrow().clone()
    }

    /// Returns whether the other device has told its nodes.
    pub fn has_told_nodes(&self) -> bool {
        self.has_told_nodes.get()
    }

    /// Returns the addresses of the other device, best first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.borrow().clone()
    }

    /// Returns where the other device is met if it cannot be dialled.
    pub fn relay(&self) -> Option<Relay> {
        self.relay.borrow().clone()
    }

    /// Returns the index of the other device's modules, as it was read last.
    pub fn index(&self) -> Arc<Index> {
        self.index.borrow().index.clone()
    }

    /// Begins with the index that was read over an earlier connection. With `is_sure`, the same revision is the same index;
    /// otherwise the other device is asked.
    pub fn begin_index(&self, known: ReadIndex, is_sure: bool) {
        *self.index.borrow_mut() = known;
        self.has_read_index.set(is_sure);
    }

    /// Reads the index of the other device whenever it changes. Does not end.
    pub async fn follow_index(&self, other: &Other, link: &Link) {
        let mut revision = self.revision.subscribe();
        loop {
            let told = *revision.borrow_and_update();
            if told != 0 && (told != self.index().revision || !self.has_read_index.get()) {
                let known = self.index.borrow().clone();
                match read_index(link, known).await {
                    Ok(read) => {
                        *self.index.borrow_mut() = read.clone();
                        self.has_read_index.set(true);
                        other.keep_index(read);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the index of another device");
                        // It is read whole next time.
                        self.index.borrow_mut().history = 0;
                        sleep(AGAIN).await;
                        revision.mark_changed();
                    }
                }
            }
            if revision.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Reads what has changed since the index that is known, or all if the other device does not know that one any more.
async fn read_index(link: &Link, known: ReadIndex) -> Result<ReadIndex> {
    let failed = |error| crate::wire::error::from_capnp(error, "the other device", Code::DeviceDown);
    let mut request = link.device.index_request();
    // The changes of many years would be larger than the index.
    if known.size < MOST_INDEX {
        request.get().set_history(known.history);
        request.get().set_since(known.index.revision);
    }
    let answer = request.send().promise.await.map_err(failed)?;
    let news = answer.get().map_err(failed)?;
    let history = news.get_history();
    match news.which().map_err(|error| failed(error.into()))? {
        index_news::All(found) => {
            let found = found.map_err(failed)?;
            let bytes = bytes::read(found, MOST_INDEX, "the other device", Code::DeviceDown).await?;
            let size = bytes.len() as u64;
            let read = spawn_blocking(move || Index::from_json(&String::from_utf8_lossy(&bytes)));
            Ok(ReadIndex { index: Arc::new(read.await.map_err(ended)??), history, size })
        }
        index_news::Change(change) => {
            let change = change.map_err(failed)?;
            let size = known.size + change.total_size().map_err(failed)?.word_count * 8;
            let change = changes::read(change).map_err(failed)?;
            let index =
                change.filter(|_| history == known.history).and_then(|change| known.index.with(change));
            match index {
                Some(index) => Ok(ReadIndex { index: Arc::new(index), history, size }),
                None => {
                    Err(Error::new(Code::DeviceDown, "the other device told changes of an unknown index"))
                }
            }
        }
    }
}

/// What this device offers to another one.
pub struct Device {
    state: Rc<State>,
    id: DeviceId,
    told: Rc<Told>,
}

impl Device {
    /// Creates what is offered to this device; what it tells is stored in `told`.
    pub fn new(state: &Rc<State>, other: &Other, told: &Rc<Told>) -> Device {
        Device { state: state.clone(), id: other.id, told: told.clone() }
    }

    /// # Errors
    /// `NOT_PERMITTED` unless both devices are members.
    fn check_members(&self) -> Result<()> {
        match self.state.network.are_members(&self.id) {
            true => Ok(()),
            false => Err(Error::new(Code::NotPermitted, "only members of the network may do this")),
        }
    }

    /// # Errors
    /// `AUTH_FAILED` if the device has been removed.
    fn check_known(&self) -> Result<()> {
        match self.state.network.devices().now().get(&self.id) {
            Some(_) => Ok(()),
            None => Err(Error::new(Code::AuthFailed, "this device does not belong to the network")),
        }
    }
}

fn refused(error: &Error) -> capnp::Error {
    capnp::Error::failed(error.to_string())
}

impl device::Server for Device {
    async fn ping(self: Rc<Self>, _: device::PingParams, _: device::PingResults) -> Result<(), capnp::Error> {
        Ok(())
    }

    async fn roster(
        self: Rc<Self>,
        params: device::RosterParams,
        _: device::RosterResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let statements = read_statements(params.get()?.get_statements()?)?;
            membership::merge(&self.state, statements).await.map_err(|error| {
                tracing::warn!(device = %self.id, %error, "cannot merge the roster of another device");
                refused(&error)
            })
        })
        .await
    }

    async fn nodes(
        self: Rc<Self>,
        params: device::NodesParams,
        _: device::NodesResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let params = params.get()?;
            let mut here = Vec::new();
            for node in params.get_here()? {
                let (name, life) = hello::read_present(node).map_err(|error| refused(&error))?;
                here.push((name, Present { life, since_ms: node.get_since() }));
            }
            let mut gone = Vec::new();
            for name in params.get_gone()? {
                let name = name?.to_str()?.parse::<Name>().map_err(|error| refused(&error))?;
                gone.push(name);
            }
            {
                let mut nodes = self.told.nodes.borrow_mut();
                let nodes = Rc::make_mut(&mut nodes);
                presence::apply(nodes, params.get_all(), here, &gone).map_err(|error| refused(&error))?;
            }
            self.told.has_told_nodes.set(true);
            if let Some(other) = self.state.network.other(&self.id) {
                other.heard();
            }
            Ok(())
        })
        .await
    }

    async fn about(
        self: Rc<Self>,
        params: device::AboutParams,
        _: device::AboutResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let params = params.get()?;
            let (addresses, relay) = read_addresses(params.get_addresses()?)?;
            self.state.network.told_addresses(self.id, &addresses);
            self.state.network.meets(self.id, relay.as_ref());
            *self.told.relay.borrow_mut() = relay;
            *self.told.addresses.borrow_mut() = addresses;
            self.told.revision.send_replace(params.get_index());
            // Third devices are told where this one is.
            self.state.network.changed();
            Ok(())
        })
        .await
    }

    async fn others(
        self: Rc<Self>,
        params: device::OthersParams,
        _: device::OthersResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            for reachable in params.get()?.get_devices()? {
                let (addresses, relay) = read_addresses(reachable.get_addresses()?)?;
                if let Ok(id) = reachable.get_device()?.try_into() {
                    let device = DeviceId(Hash(id));
                    self.state.network.hinted(device, &addresses);
                    let is_up = self.state.network.other(&device).is_some_and(|other| other.link().is_some());
                    // What a device says of itself counts more.
                    if relay.is_some() && !is_up {
                        self.state.network.meets(device, relay.as_ref());
                    }
                }
            }
            Ok(())
        })
        .await
    }

    async fn index(
        self: Rc<Self>,
        params: device::IndexParams,
        mut results: device::IndexResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let (known, mut news) = (params.get()?, results.get());
            let index = self.state.store.index();
            let mut history = self.state.history.borrow_mut();
            news.set_history(history.id);
            let change = match self.check_members() {
                Ok(()) if known.get_history() == history.id => history.since(&index, known.get_since()),
                Ok(()) => None,
                Err(refused) => {
                    remote::write_index(Err(refused), news.init_all());
                    return Ok(());
                }
            };
            match change.and_then(|change| changes::Told::of(&change)) {
                Some(change) => change.write(news.init_change()),
                None => remote::write_index(index.to_json(), news.init_all()),
            }
            Ok(())
        })
        .await
    }

    async fn module(
        self: Rc<Self>,
        params: device::ModuleParams,
        mut results: device::ModuleResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            match self.check_known() {
                Ok(()) => {
                    let sha256 = params.get()?.get_sha256()?.to_vec();
                    remote::write_module(&self.state.home, &sha256, results.get()).await;
                }
                Err(refused) => error::write(&refused, results.get().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn control(
        self: Rc<Self>,
        _: device::ControlParams,
        mut results: device::ControlResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            match self.check_members() {
                Ok(()) => {
                    let in_use = self.state.network.other(&self.id).map(|other| other.begin_use());
                    results.get().set_control(control_handler::for_device(&self.state, self.id, in_use));
                }
                Err(refused) => error::write(&refused, results.get().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn gossip(
        self: Rc<Self>,
        params: device::GossipParams,
        _: device::GossipResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            self.check_members().map_err(|error| refused(&error))?;
            let read = read_gossip(params.get()?.get_messages()?);
            let received = match (read, self.told.gossips.try_lock()) {
                (Ok(messages), Ok(_turn)) => {
                    let size = messages.iter().map(Vec::len).sum();
                    let pause =
                        self.told.rate.borrow_mut().take(messages.len(), size, std::time::Instant::now());
                    sleep(pause).await;
                    gossip::received(&self.state, &self.id, &messages)
                }
                // It does not wait for answers, or sends what no honest device sends.
                _ => Err(Error::new(Code::LimitExceeded, "the other device sends too much gossip")),
            };
            received.map_err(|error| {
                tracing::warn!(device = %self.id, %error, "the connection to a device is ended");
                let link = self.state.network.other(&self.id).and_then(|other| other.link());
                if let Some(link) = link.filter(|link| Rc::ptr_eq(&link.told, &self.told)) {
                    link.end();
                }
                refused(&error)
            })
        })
        .await
    }

    async fn release(
        self: Rc<Self>,
        _: device::ReleaseParams,
        mut results: device::ReleaseResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let other = self.state.network.other(&self.id);
            let is_busy = other.is_some_and(|other| links::is_needed(&self.state.network, &other));
            results.get().set_busy(is_busy);
            Ok(())
        })
        .await
    }
}

/// Reads messages of gossip.
///
/// # Errors
/// capnp's; also if there are too many.
fn read_gossip(from: capnp::data_list::Reader<'_>) -> capnp::Result<Vec<Vec<u8>>> {
    let mut size = 0;
    let mut messages = Vec::new();
    for message in from {
        let message = message?;
        size += message.len();
        if messages.len() == gossip::MOST_MESSAGES || size > gossip::MOST_BYTES {
            return Err(capnp::Error::failed("too much gossip in one message".into()));
        }
        messages.push(message.to_vec());
    }
    Ok(messages)
}

/// Reads addresses and the relay. A later version may tell kinds of addresses that this version cannot dial: these are left out.
fn read_addresses(from: capnp::text_list::Reader<'_>) -> capnp::Result<(Vec<SocketAddr>, Option<Relay>)> {
    let (mut addresses, mut relay) = (Vec::new(), None);
    for text in from.iter().take(MOST + 1) {
        let text = text?.to_str()?;
        match (text.strip_prefix("relay:"), text.parse()) {
            (Some(text), _) => relay = text.parse().ok(),
            (None, Ok(Address::Tcp(at))) => addresses.push(at),
            (None, _) => {}
        }
    }
    Ok((addresses, relay))
}

/// Reads statements. Those that cannot be understood are left out: a later version may state more.
///
/// # Errors
/// capnp's, if the message cannot be read.
pub fn read_statements(from: capnp::data_list::Reader<'_>) -> capnp::Result<Vec<Statement>> {
    let mut statements = Vec::new();
    for json in from {
        match serde_json::from_slice(json?) {
            Ok(statement) => statements.push(statement),
            Err(error) => tracing::warn!(%error, "a statement of the roster cannot be understood"),
        }
    }
    Ok(statements)
}

/// Returns statements in the form that crosses.
///
/// # Errors
/// `INTERNAL`.
pub fn encode_statements(statements: &[Statement]) -> Result<Vec<Vec<u8>>> {
    let encoded = statements.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>();
    encoded.map_err(|error| Error::internal(format!("cannot write a statement: {error}")))
}
