//! Devices in the same local network, by multicast DNS (RFC 6762, RFC 6763).
//!
//! In: the devices of the network, the port where this one listens. Out: addresses where another device may be dialled. A hint,
//! never proof of anything: TLS proves who answers. Must not know: connections, who is up.
//!
//! A device announces a name that follows from the keys of its network and its own. Only who knows both can tell whose it is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use mdns_sd::{ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::sleep;

use super::Network;
use crate::base::device::DeviceId;
use crate::base::error::{Error, Result};
use crate::base::id::Hash;
use crate::daemon::server::State;
use crate::daemon::stop::Step;
use crate::trust::key::PublicKey;

/// The service, as other programs in the local network see it.
const SERVICE: &str = "_ghost-gvm._tcp.local.";

/// How often to look whether what is announced has changed.
const LOOK: Duration = Duration::from_secs(2);

/// How often to look whether the addresses of this device have changed, in seconds.
const INTERFACES: u32 = 5;

/// The letters of an announced name.
const LETTERS: usize = 20;

/// What is announced.
#[derive(Clone, PartialEq, Eq)]
struct Announced {
    name: String,
    port: u16,
}

/// Announces this device while others may come, and notes where other devices announce themselves. Returns when gpmd stops.
pub async fn follow(state: Rc<State>) {
    loop {
        let wanted = wanted(&state.network);
        let followed = async {
            match &wanted {
                Some(announced) => announce(&state, announced).await,
                None => std::future::pending().await,
            }
        };
        let changed = async {
            while self::wanted(&state.network) == wanted {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = state.stop.reach(Step::Asked) => return,
            () = changed => {}
            failed = followed => {
                // A system without multicast. Devices are still dialled where they were known before.
                if let Err(error) = failed {
                    tracing::warn!(%error, "cannot look for devices in the local network");
                }
                tokio::select! {
                    () = state.stop.reach(Step::Asked) => return,
                    () = sleep(30 * LOOK) => {}
                }
            }
        }
    }
}

/// Returns what this device should announce: nothing while it is alone.
fn wanted(network: &Network) -> Option<Announced> {
    if network.others().is_empty() {
        return None;
    }
    let port = network.addresses().first()?.port();
    let founder = network.roster.borrow().founder();
    Some(Announced { name: name(&founder, &network.key().public().id()), port })
}

/// Returns the name that a device announces.
fn name(founder: &PublicKey, device: &DeviceId) -> String {
    let mut text = b"ghost nearby 1\0".to_vec();
    text.extend_from_slice(founder.bytes());
    text.extend_from_slice(&device.0.0);
    let mut name = Hash::of(&text).to_string();
    name.truncate(LETTERS);
    name
}

/// Announces, and listens to others. Returns only with an error.
async fn announce(state: &State, announced: &Announced) -> Result<()> {
    let failed = |error: mdns_sd::Error| Error::internal(format!("multicast DNS: {error}"));
    let daemon = Daemon(ServiceDaemon::new().map_err(failed)?);
    daemon.0.set_ip_check_interval(INTERFACES).map_err(failed)?;
    let Announced { name, port } = announced;
    let host = format!("{name}.local.");
    let info = ServiceInfo::new(SERVICE, name, &host, "", *port, None).map_err(failed)?;
    daemon.0.register(info.enable_addr_auto()).map_err(failed)?;
    let events = daemon.0.browse(SERVICE).map_err(failed)?;
    loop {
        let event = events.recv_async().await;
        let event = event.map_err(|_| Error::internal("multicast DNS has ended"))?;
        if let ServiceEvent::ServiceResolved(found) = event {
            note(&state.network, &found);
        }
    }
}

/// Notes the addresses of a device that was found, if it belongs to the network.
fn note(network: &Network, found: &ResolvedService) {
    let founder = network.roster.borrow().founder();
    let others = network.others().into_iter();
    let names: HashMap<String, DeviceId> =
        others.map(|other| (name(&founder, &other.id), other.id)).collect();
    let Some(device) = found.fullname.split('.').next().and_then(|name| names.get(name)) else { return };
    let addresses = found.addresses.iter().map(|at| SocketAddr::new(at.to_ip_addr(), found.port));
    // The address of the link alone needs the number of the interface.
    let addresses =
        addresses.filter(|at| !matches!(at, SocketAddr::V6(at) if at.ip().is_unicast_link_local()));
    let addresses: Vec<SocketAddr> = addresses.collect();
    tracing::debug!(%device, ?addresses, "found a device in the local network");
    network.announced(*device, &addresses);
}

/// Ends multicast DNS when it is dropped.
struct Daemon(ServiceDaemon);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::key::SecretKey;

    #[test]
    fn a_name_shows_neither_the_network_nor_the_device() {
        let [network, other, device] = [(); 3].map(|()| SecretKey::generate().unwrap().public());
        let one = name(&network, &device.id());
        assert_eq!(one.len(), LETTERS);
        assert_eq!(one, name(&network, &device.id()));
        assert_ne!(one, name(&other, &device.id()));
        assert!(!device.id().to_string().replace('-', "").contains(&one));
    }
}
