//! Devices of the network on the same link, by multicast DNS (RFC 6762, RFC 6763): a hint where to dial.
//!
//! In: whether a device of the network is not connected, the addresses of this device. Out: addresses of other devices; never
//! proof of anything, because anybody on the link can announce anything. Must not know: how devices are dialled, how they prove
//! who they are.
//!
//! This device announces itself and looks for others only while a device of its network is not connected. The announcement has
//! the id of the device, its addresses and its port.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use mdns_sd::{Receiver, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::time::sleep;

use super::Network;
use crate::base::device::DeviceId;
use crate::base::error::{Error, Result};
use crate::daemon::server::State;
use crate::daemon::stop::Step;

/// The type of the service.
const SERVICE: &str = "_ghost-gvm._tcp.local.";

/// How often to look whether a device is missing, and whether the addresses of this device have changed.
const LOOK: Duration = Duration::from_secs(1);

/// What runs while a device is missing. Dropping it ends the announcement.
struct Search {
    daemon: ServiceDaemon,
    found: Receiver<ServiceEvent>,
    announced: Vec<SocketAddr>,
}

impl Search {
    fn start() -> Result<Search> {
        let daemon = ServiceDaemon::new().map_err(|error| failed(&error))?;
        let found = daemon.browse(SERVICE).map_err(|error| failed(&error))?;
        Ok(Search { daemon, found, announced: Vec::new() })
    }

    /// Announces the addresses of this device, if they are not announced yet.
    fn announce(&mut self, network: &Network) -> Result<()> {
        let addresses = network.addresses();
        let Some(port) = addresses.first().map(SocketAddr::port).filter(|_| addresses != self.announced)
        else {
            return Ok(());
        };
        // A label of a name has at most 63 bytes.
        let id = network.key().public().id().to_string().replace('-', "");
        let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        let host = format!("{id}.local.");
        let info = ServiceInfo::new(SERVICE, &id, &host, ips.as_slice(), port, None);
        self.daemon.register(info.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
        self.announced = addresses;
        Ok(())
    }

    /// Waits for a device that announces itself.
    async fn next(&self) -> (DeviceId, Vec<SocketAddr>) {
        loop {
            let Ok(event) = self.found.recv_async().await else { std::future::pending().await };
            let ServiceEvent::ServiceResolved(service) = event else { continue };
            let name = service.fullname.split('.').next().unwrap_or_default();
            if let Ok(id) = name.parse() {
                let ips = service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr);
                return (id, ips.map(|ip| SocketAddr::new(ip, service.port)).collect());
            }
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        // It fails only if its thread has ended already.
        let _ = self.daemon.shutdown();
    }
}

fn failed(error: &mdns_sd::Error) -> Error {
    Error::internal(format!("cannot use multicast DNS: {error}"))
}

/// Looks for the devices that are not connected, until gpmd stops.
pub async fn follow(state: Rc<State>) {
    let network = &state.network;
    let (mut search, mut has_failed) = (None::<Search>, false);
    loop {
        let next = async {
            match &search {
                Some(search) => search.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = state.stop.reach(Step::Asked) => return,
            (device, addresses) = next => {
                tracing::debug!(%device, ?addresses, "a device announces itself");
                network.announced(device, &addresses);
                continue;
            }
            () = sleep(LOOK) => {}
        }
        if network.others().iter().all(|other| other.link().is_some()) {
            search = None;
            continue;
        }
        let searching = match search.take() {
            Some(search) => Ok(search),
            None => Search::start(),
        };
        let announced = searching.and_then(|mut begun| begun.announce(network).map(|()| begun));
        match announced {
            Ok(begun) => search = Some(begun),
            // Without it, devices still find each other by the addresses that they know.
            Err(error) if !std::mem::replace(&mut has_failed, true) => {
                tracing::warn!(%error, "cannot look for devices on this link");
            }
            Err(error) => tracing::debug!(%error, "cannot look for devices on this link"),
        }
    }
}
