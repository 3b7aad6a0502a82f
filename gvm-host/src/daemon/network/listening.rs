//! Where other devices reach this one: the addresses on which gpmd listens for nodes and devices.
//!
//! In: the addresses that a person chose, whether other devices may come. Out: listeners, and the addresses to dial. Must not
//! know: what is sent over a connection.
//!
//! A device alone listens on the loopback interface. With an open invitation or with other devices in its network it listens on all
//! interfaces, on the same port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::membership::whole;
use super::profile::Profile;
use super::{Network, door};
use crate::base::error::{Code, Error, Result};
use crate::base::node::Life;
use crate::daemon::connections::{Accepting, Of, Until};
use crate::daemon::server::{State, ended, now_ms};
use crate::daemon::stop::Step;
use crate::wire::transport::{Address, Listener};

/// How often to look whether the addresses of this device have changed. It costs some microseconds.
const LOOK: Duration = Duration::from_secs(2);

/// The most addresses that other devices are told.
const MOST: usize = 16;

/// The listeners for nodes, and what is known about their addresses.
pub struct Listening {
    /// The addresses that a person chose. None: the device decides.
    chosen: Vec<IpAddr>,
    /// 0 before the first listener has taken a port.
    port: u16,
    /// Whether the port was not chosen by a person.
    is_any_port: bool,
    bound: Vec<Bound>,
    /// Where other devices can dial this one, best first. None while it listens for itself alone.
    addresses: Vec<SocketAddr>,
}

struct Bound {
    at: IpAddr,
    until: Until,
}

impl Listening {
    /// Creates the settings: the addresses that a person chose, and the port, 0 for a free one.
    pub fn new(chosen: Vec<IpAddr>, port: u16) -> Listening {
        Listening { chosen, port, is_any_port: port == 0, bound: Vec::new(), addresses: Vec::new() }
    }
}

/// Returns the addresses on which this device should listen.
fn wanted(network: &Network) -> Vec<IpAddr> {
    let listening = network.listening.borrow();
    if !listening.chosen.is_empty() {
        return listening.chosen.clone();
    }
    let known = network.devices.now();
    let others = known.all().any(|device| Some(device.key) != known.own());
    let invites = network.invitations.borrow().next_expiry(now_ms()).is_some();
    match others || invites {
        true => vec![Ipv6Addr::UNSPECIFIED.into()],
        false => vec![Ipv4Addr::LOCALHOST.into()],
    }
}

/// Listens for the first time. Returns the listeners; the caller accepts their connections.
///
/// # Errors
/// `PORT_IN_USE`, `SYNTAX` if the device has no such address, `INTERNAL`.
pub fn start(network: &Network) -> Result<Vec<Accepting>> {
    let wanted = wanted(network);
    let (port, is_any) = {
        let listening = network.listening.borrow();
        (listening.port, listening.is_any_port)
    };
    let remembered = network.profile.borrow().port.filter(|_| is_any);
    let started = match remembered {
        // The port where other devices know this one.
        Some(known) => listen(network, &wanted, known).or_else(|_| listen(network, &wanted, port)),
        None => listen(network, &wanted, port),
    };
    let started = started?;
    look(network);
    Ok(started)
}

/// Listens on these addresses, all on one port.
fn listen(network: &Network, wanted: &[IpAddr], port: u16) -> Result<Vec<Accepting>> {
    let mut port = port;
    let (mut bound, mut accepting) = (Vec::new(), Vec::new());
    for ip in wanted {
        let (listener, at) = bind(network, *ip, port)?;
        if let Address::Tcp(at) = listener.address() {
            port = at.port();
        }
        let until = Until::default();
        bound.push(Bound { at, until: until.clone() });
        accepting.push(Accepting { listener, of: Of::NodesAndDevices, offer: door::offer, until });
    }
    let mut listening = network.listening.borrow_mut();
    (listening.bound, listening.port) = (bound, port);
    Ok(accepting)
}

fn bind(network: &Network, ip: IpAddr, port: u16) -> Result<(Listener, IpAddr)> {
    let tls = network.tls_for_nodes()?;
    let home = network.home.clone();
    let node = move |life: Life| {
        let socket = home.node_socket(life.id, life.incarnation);
        socket.exists().then_some(socket)
    };
    let (listener, ip) = match Listener::bind_tcp(SocketAddr::new(ip, port), tls.clone()) {
        // A system without IPv6.
        Err(error) if ip == Ipv6Addr::UNSPECIFIED && error.code() != Code::PortInUse => {
            let all: IpAddr = Ipv4Addr::UNSPECIFIED.into();
            (Listener::bind_tcp(SocketAddr::new(all, port), tls)?, all)
        }
        bound => (bound?, ip),
    };
    Ok((listener.hand_over(node), ip))
}

/// Listens on other addresses if that has become necessary. Connections that exist stay.
///
/// # Errors
/// `PORT_IN_USE`, `INTERNAL`; then it listens as before.
pub async fn settle(state: &Rc<State>) -> Result<()> {
    let state = state.clone();
    whole(async move { settle_now(&state).await }).await
}

async fn settle_now(state: &Rc<State>) -> Result<()> {
    let network = &state.network;
    let _turn = network.rebinding.lock().await;
    let wanted = wanted(network);
    let (before, port) = {
        let listening = network.listening.borrow();
        (listening.bound.iter().map(|bound| bound.at).collect::<Vec<_>>(), listening.port)
    };
    let v4: Vec<IpAddr> = vec![Ipv4Addr::UNSPECIFIED.into()];
    let is_same = before == wanted || before == v4 && wanted == [IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    if is_same {
        return Ok(());
    }
    // Two listeners cannot share the port, so the earlier ones close first.
    let closing: Vec<Until> =
        network.listening.borrow().bound.iter().map(|bound| bound.until.clone()).collect();
    for until in closing {
        until.close.cancel();
        until.closed.cancelled().await;
    }
    let rebound = listen(network, &wanted, port);
    let (accepting, result) = match rebound {
        Ok(accepting) => (accepting, Ok(())),
        Err(error) => (listen(network, &before, port)?, Err(error)),
    };
    for accepting in accepting {
        let sent = network.accepting.send(accepting).await;
        sent.map_err(|_| Error::internal("gpmd is stopping"))?;
    }
    look(network);
    network.changed();
    result?;
    remember(network).await
}

/// Remembers the port, so that other devices find this one after a restart.
async fn remember(network: &Network) -> Result<()> {
    let port = {
        let listening = network.listening.borrow();
        (listening.is_any_port && !listening.addresses.is_empty()).then_some(listening.port)
    };
    let profile = Profile { port, ..network.profile.borrow().clone() };
    if port.is_none() || profile == *network.profile.borrow() {
        return Ok(());
    }
    *network.profile.borrow_mut() = profile.clone();
    let home = network.home.clone();
    tokio::task::spawn_blocking(move || profile.write(&home)).await.map_err(ended)?
}

/// Looks up the addresses of this device. Returns whether they have changed.
fn look(network: &Network) -> bool {
    let mut listening = network.listening.borrow_mut();
    let mut addresses = Vec::new();
    let alone = |ip: &IpAddr| ip.is_loopback();
    if listening.chosen.is_empty() && listening.bound.iter().all(|bound| alone(&bound.at)) {
        // It listens for itself.
    } else if listening.bound.iter().any(|bound| bound.at.is_unspecified()) {
        let v6 = listening.bound.iter().any(|bound| bound.at == Ipv6Addr::UNSPECIFIED);
        addresses = interfaces().into_iter().filter(|ip| v6 || ip.is_ipv4()).collect();
    } else {
        addresses = listening.bound.iter().map(|bound| bound.at).collect();
    }
    let port = listening.port;
    let addresses: Vec<SocketAddr> =
        addresses.into_iter().take(MOST).map(|ip| SocketAddr::new(ip, port)).collect();
    let changed = addresses != listening.addresses;
    listening.addresses = addresses;
    changed
}

/// Returns the addresses of this device that others may reach, the likely ones first. A device without a network has its
/// loopback address.
pub fn interfaces() -> Vec<IpAddr> {
    let found = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot list the addresses of this device");
        Vec::new()
    });
    let mut all: Vec<(u8, IpAddr)> = found
        .into_iter()
        .filter_map(|interface| rank(&interface.name, interface.ip()).map(|rank| (rank, interface.ip())))
        .collect();
    all.sort_unstable();
    all.dedup();
    match all.is_empty() {
        true => vec![Ipv4Addr::LOCALHOST.into()],
        false => all.into_iter().map(|(_, ip)| ip).collect(),
    }
}

/// Ranks an address: lower is better. `None` for one that no other device can dial.
fn rank(interface: &str, ip: IpAddr) -> Option<u8> {
    let is_local = match ip {
        // The address of the link alone needs the number of the interface, which differs between devices.
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified(),
    };
    if is_local {
        return None;
    }
    let is_bridge = ["docker", "br-", "veth", "virbr", "vmnet", "cni"];
    let is_bridge = is_bridge.iter().any(|begin| interface.starts_with(begin));
    let kind = match ip {
        IpAddr::V4(ip) if ip.is_link_local() => 3,
        IpAddr::V4(ip) if ip.is_private() => 0,
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 2,
    };
    Some(if is_bridge { 4 + kind } else { kind })
}

/// Notices changed addresses, expired invitations and a home that was removed, until gpmd stops.
pub async fn follow(state: Rc<State>) {
    let network = &state.network;
    loop {
        tokio::select! {
            () = state.stop.reach(Step::Asked) => return,
            () = network.invited.notified() => {}
            () = sleep(LOOK) => {}
        }
        if !state.has_home() {
            tracing::error!("the home was removed, so gpmd stops");
            state.stop.ask("its home was removed".into());
            return;
        }
        if network.settle_invitations()
            && let Err(error) = settle(&state).await
        {
            tracing::warn!(%error, "cannot change where gpmd listens");
        }
        if look(network) {
            tracing::info!("the addresses of this device have changed");
            network.changed();
            if let Some(tunnels) = network.tunnels() {
                tunnels.changed().await;
            }
        }
    }
}

impl Network {
    /// Returns where other devices can dial this one, best first.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listening.borrow().addresses.clone()
    }

    /// Returns where processes of this device reach the port for nodes.
    pub fn own_address(&self) -> Address {
        let listening = self.listening.borrow();
        let ip = listening.bound.first().map_or(Ipv4Addr::LOCALHOST.into(), |bound| bound.at);
        let ip = if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip };
        Address::Tcp(SocketAddr::new(ip, listening.port))
    }

    /// Returns the port and the interfaces where other devices reach this one, in words.
    pub fn listens(&self) -> String {
        let listening = self.listening.borrow();
        let port = listening.port;
        if listening.bound.iter().any(|bound| bound.at.is_unspecified()) {
            return format!("port {port} (all interfaces)");
        }
        let all: Vec<String> = listening.bound.iter().map(|bound| bound.at.to_string()).collect();
        format!("port {port} ({})", all.join(", "))
    }

    /// Lets strangers in while an invitation is open. Returns whether that has changed.
    pub fn settle_invitations(&self) -> bool {
        let open = self.invitations.borrow().next_expiry(now_ms()).is_some();
        self.open.swap(open, std::sync::atomic::Ordering::AcqRel) != open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_others_can_dial_come_first() {
        let rank = |interface: &str, ip: &str| rank(interface, ip.parse().unwrap());
        assert_eq!(rank("lo", "127.0.0.1"), None);
        assert_eq!(rank("eth0", "fe80::1"), None);
        let order = ["192.168.1.5", "203.0.113.5", "2001:db8::1", "169.254.1.1"].map(|ip| rank("eth0", ip));
        assert!(order.is_sorted() && order.iter().all(Option::is_some), "{order:?}");
        assert!(rank("docker0", "172.17.0.1") > rank("wlan0", "169.254.1.1"));
        assert!(!interfaces().is_empty());
    }
}
