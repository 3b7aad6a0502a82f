//! The network of devices, from the view of one of them.
//!
//! In: the key, the roster and the invitations in the home; what other devices tell. Out: connections to the other devices,
//! and what is known about them. Must not know: how nodes register, how modules are stored.
//!
//! - Pure: `presence` (the nodes of other devices, and what names mean), `invitations` (with their file), `profile`
//!   (the name and port of this device, with their file), `known` (addresses of devices, with their file).
//! - `membership`: changes of the roster, durable before anybody hears of them. `join`: both sides of an invitation.
//! - `nearby`: where other devices announce themselves. `listening`: where they reach this one. `dial`: how this one
//!   reaches others; `connecting`: how it does so for its nodes. `links`: one connection to each device. `door`, `device`: what another device may ask. `tell`: what it is told.
//! - `gossip`: presence in large networks, where a device keeps a few connections only. Pure: `payload` (what a device says of
//!   itself there), `rate` (how much it may send).
//! - `tunnels`: the way to devices that cannot be dialled (`no_tunnels` without the feature `iroh`;
//!   `meeting` has the plain data of both).
//! - `fetch`: the modules of other devices. `names`: answers about nodes. `commands`: answers to commands. `remote`: bytes that are read piece by piece.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, mpsc, watch};

use super::connections::{Accepting, Of, Until};
use super::server::now_ms;
use crate::base::device::DeviceId;
use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::base::home::Home;
use crate::base::id::Name;
use crate::trust::device::DeviceKey;
use crate::trust::devices::Devices;
use crate::trust::key::PublicKey;
use crate::trust::relay::Relay;
use crate::trust::roster::{Role, Roster};
use crate::trust::roster_file;
use crate::wire::gate::Gate;
use crate::wire::tls::{OwnKey, Tls};
use crate::wire::transport::Listener;

pub mod commands;
pub mod connecting;
mod device;
mod dial;
pub mod door;
pub mod fetch;
pub mod gossip;
mod invitations;
mod join;
mod known;
pub mod links;
pub mod listening;
pub mod meeting;
pub mod membership;
pub mod names;
pub mod nearby;
mod payload;
mod presence;
pub mod profile;
mod rate;
pub mod remote;
mod tell;
#[cfg_attr(not(feature = "iroh"), path = "no_tunnels.rs")]
pub mod tunnels;

use gossip::Gossip;
use invitations::Invitations;
use known::Known;
use links::Other;
use listening::Listening;
use meeting::Met;
use profile::Profile;
use tunnels::Tunnels;

/// The most connections of strangers at once, while an invitation is open.
const MOST_STRANGERS: usize = 16;

/// What a device knows about its network. Belongs to the server's thread.
pub struct Network {
    home: Home,
    key: RefCell<Rc<DeviceKey>>,
    shown: OwnKey,
    profile: RefCell<Profile>,
    /// The name of the device in a network that it founds.
    name: Name,
    roster: RefCell<Roster>,
    /// One change at a time: each is durable before the next.
    changing: tokio::sync::Mutex<()>,
    devices: Devices,
    invitations: RefCell<Invitations>,
    /// Whether a stranger's TLS handshake succeeds.
    open: Arc<AtomicBool>,
    strangers: Gate,
    others: RefCell<HashMap<DeviceId, Rc<Other>>>,
    known: RefCell<Known>,
    /// Changes with everything that other devices are told.
    news: watch::Sender<u64>,
    listening: RefCell<Listening>,
    tunnels: RefCell<Option<Rc<Tunnels>>>,
    /// One change of the listeners at a time.
    rebinding: tokio::sync::Mutex<()>,
    /// Wakes what waits for the expiry of invitations.
    invited: Notify,
    accepting: mpsc::Sender<Accepting>,
    links: Cell<u64>,
    /// A network of more devices is large: then a device is not connected to each other one.
    small: usize,
    gossip: RefCell<Option<Gossip>>,
    /// Wakes what drives the gossip.
    woken: Notify,
}

impl Network {
    /// Opens the network of a home; founds one with this device alone if there is none.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` if `name` is given and the device has another name in its network; `HOME_INSECURE`,
    /// `VERSION_MISMATCH`, `STORAGE_FULL`, `INTERNAL`.
    pub fn open(
        home: &Home,
        name: Option<Name>,
        relay: Option<ChosenRelay>,
        listening: Listening,
        accepting: mpsc::Sender<Accepting>,
        small: usize,
    ) -> Result<Network> {
        let now_ms = now_ms();
        let key = DeviceKey::open(home)?;
        let profile = profile(home, name, relay)?;
        let name = match &profile.name {
            Some(name) => name.clone(),
            None => profile::host_name()?,
        };
        let (roster, is_new) =
            membership::settled(roster_file::read(home)?, &key, &name, profile.name.is_some(), now_ms)?;
        match is_new {
            true => roster_file::write(home, &roster)?,
            // After a crash, or an earlier release.
            false => durable::place_too(&home.roster(), &home.shared())?,
        }
        let devices = Devices::default();
        membership::publish(&devices, key.public(), &roster);
        let invitations = Invitations::read(home)?;
        let open = invitations.next_expiry(now_ms).is_some();
        Ok(Network {
            home: home.clone(),
            shown: OwnKey::new(&key)?,
            key: RefCell::new(Rc::new(key)),
            profile: RefCell::new(profile),
            name,
            roster: RefCell::new(roster),
            changing: tokio::sync::Mutex::default(),
            devices,
            invitations: RefCell::new(invitations),
            open: Arc::new(AtomicBool::new(open)),
            strangers: Gate::new(MOST_STRANGERS),
            others: RefCell::default(),
            known: RefCell::new(Known::read(home)),
            news: watch::Sender::new(0),
            listening: RefCell::new(listening),
            tunnels: RefCell::default(),
            rebinding: tokio::sync::Mutex::default(),
            invited: Notify::new(),
            accepting,
            links: Cell::new(0),
            small,
            gossip: RefCell::default(),
            woken: Notify::new(),
        })
    }

    /// Returns the key of this device.
    pub fn key(&self) -> Rc<DeviceKey> {
        self.key.borrow().clone()
    }

    /// Returns the devices that this one trusts.
    pub fn devices(&self) -> Devices {
        self.devices.clone()
    }

    /// Tells other devices soon that something has changed: nodes, modules, addresses, the roster.
    pub fn changed(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Returns the TLS configuration of the port for commands: it accepts the holders of this device's key.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn tls_for_commands(&self) -> Result<Tls> {
        let devices = self.devices();
        Tls::of_gpmd(&self.shown, Arc::new(move |key| devices.now().own() == Some(*key)))
    }

    /// Returns the TLS configuration of the port for nodes: it accepts the devices of the network, and anybody while an
    /// invitation is open.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn tls_for_nodes(&self) -> Result<Tls> {
        let (devices, open) = (self.devices(), self.open.clone());
        let accepts =
            move |key: &PublicKey| open.load(Ordering::Acquire) || devices.now().key(&key.id()) == Some(*key);
        Tls::of_gpmd(&self.shown, Arc::new(accepts))
    }

    /// Returns the TLS configuration to dial the device with this key.
    ///
    /// # Errors
    /// `INTERNAL`.
    fn tls_to(&self, other: PublicKey) -> Result<Tls> {
        Tls::of_gpmd(&self.shown, Arc::new(move |key| *key == other))
    }

    /// Returns the name of this device.
    pub fn own_name(&self) -> Name {
        self.devices.now().own_name().unwrap_or(&self.name).clone()
    }

    /// Returns whether this device is a member of its network: not a guest, not removed.
    pub fn is_member(&self) -> bool {
        let known = self.devices.now();
        let own = known.own().and_then(|own| known.get(&own.id()).map(|own| own.role));
        own == Some(Role::Member)
    }

    /// Returns whether this device and the other one are both members.
    pub fn are_members(&self, other: &DeviceId) -> bool {
        self.is_member() && !self.devices.now().is_guest(other)
    }

    /// Returns whether the network has so many devices that this one keeps only a few connections. A guest takes no part in
    /// gossip, and is connected to each device in any network.
    pub fn is_large(&self) -> bool {
        self.devices.now().all().len() > self.small && self.is_member()
    }

    /// Returns whether this device keeps a connection to another one, whatever the gossip says.
    pub fn is_direct(&self, other: &DeviceId) -> bool {
        !self.is_large() || self.devices.now().is_guest(other)
    }

    /// Returns the tunnels of this device, if it has a relay.
    pub fn tunnels(&self) -> Option<Rc<Tunnels>> {
        self.tunnels.borrow().clone()
    }

    /// Starts the tunnels anew if this device has a relay, and takes the connections that they bring.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` if the program was built without them; `INTERNAL`.
    pub fn start_tunnels(&self) -> Result<()> {
        // The earlier ones have the same socket.
        drop(self.tunnels.borrow_mut().take());
        let Some(relay) = self.profile.borrow().relay.as_deref().map(str::parse::<Relay>).transpose()? else {
            return Ok(());
        };
        let tls = self.tls_for_nodes()?;
        let (home, devices, open) = (&self.home, self.devices(), self.open.clone());
        let start = meeting::Start { home, key: &self.key(), relay: Some(relay), devices, open, tls };
        let (tunnels, listener) = Tunnels::start(start)?;
        for other in self.others() {
            tunnels.meets(self.met(other.key));
        }
        let listener = Listener::Tunnel(listener);
        let accepting =
            Accepting { listener, of: Of::NodesAndDevices, offer: door::offer, until: Until::default() };
        let taken = self.accepting.try_send(accepting);
        taken.map_err(|_| Error::internal("gpmd cannot take connections through tunnels"))?;
        *self.tunnels.borrow_mut() = Some(Rc::new(tunnels));
        self.changed();
        Ok(())
    }

    /// Returns where a device is met, as far as this one knows.
    fn met(&self, key: PublicKey) -> Met {
        Met { key, relay: self.known.borrow().relay(&key.id()), direct: Vec::new() }
    }

    /// Uses this relay from now on if the device has none, durably.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `INTERNAL`.
    pub fn adopt_relay(&self, relay: &Relay) -> Result<()> {
        if self.profile.borrow().relay.is_some() {
            return Ok(());
        }
        let profile = Profile { relay: Some(relay.to_string()), ..self.profile.borrow().clone() };
        profile.write(&self.home)?;
        *self.profile.borrow_mut() = profile;
        self.start_tunnels()
    }

    /// Returns a number for a link.
    fn next_link(&self) -> u64 {
        self.links.set(self.links.get() + 1);
        self.links.get()
    }
}

/// What a person chose about the relay of this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChosenRelay {
    Off,
    Use(Relay),
}

impl fmt::Display for ChosenRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChosenRelay::Off => f.write_str("off"),
            ChosenRelay::Use(relay) => relay.fmt(f),
        }
    }
}

impl FromStr for ChosenRelay {
    type Err = Error;

    fn from_str(text: &str) -> Result<ChosenRelay> {
        match text {
            "off" => Ok(ChosenRelay::Off),
            text => text.parse().map(ChosenRelay::Use),
        }
    }
}

/// Reads what the device remembers about itself, and remembers what a person chose.
fn profile(home: &Home, name: Option<Name>, relay: Option<ChosenRelay>) -> Result<Profile> {
    let before = Profile::read(home)?;
    let relay = match relay {
        None => before.relay.clone(),
        Some(ChosenRelay::Off) => None,
        Some(ChosenRelay::Use(relay)) => Some(relay.to_string()),
    };
    let profile = Profile { name: name.or_else(|| before.name.clone()), relay, ..before.clone() };
    if profile != before {
        profile.write(home)?;
    }
    Ok(profile)
}
