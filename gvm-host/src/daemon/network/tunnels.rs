//! Tunnels to devices that cannot be reached by TCP, on a thread of its own.
//!
//! In: the relay of this device and those of others, requests on the socket for tunnels, streams that other devices open. Out:
//! bytes that are passed on, between a process of this device and another device. Must not know: what the bytes are; TLS runs
//! between the two ends, as over TCP.
//!
//! A process of this device asks on a socket for another device or its node. A stream from another device is handed to the node
//! that it asks for, as the port does it (`wire/handover.rs`), or to gpmd itself.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use gvm_tunnel::{Opened, PURPOSE, Setup, Stream};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::meeting::{Met, Path, Start};
use crate::base::device::DeviceId;
use crate::base::error::{Error, Result};
use crate::base::home::Home;
use crate::trust::devices::Devices;
use crate::trust::key::PublicKey;
use crate::trust::relay::Relay;

use crate::wire::handover;
use crate::wire::transport::Address;
use crate::wire::tunnel::{self, Asked, Door};

/// The bytes that each direction of a tunnel holds.
const HELD: usize = 32 << 10;

/// The most tunnels at once, and of devices that do not belong to the network.
const MOST: usize = 4096;
const MOST_STRANGERS: usize = 16;

/// The most connections for gpmd itself that wait.
const WAITING: usize = 64;

/// The tunnels of this device. Belongs to the server's thread; dropping it ends them.
pub struct Tunnels {
    tunnels: gvm_tunnel::Tunnels,
    relay: Option<Relay>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// What the server's thread and that of the tunnels share.
struct Shared {
    home: Home,
    devices: Devices,
    /// Where devices are met, those among them that do not belong to the network (yet).
    met: Mutex<HashMap<DeviceId, Met>>,
    /// Where a device is met that has not told it.
    relay: Option<Relay>,
    for_gpmd: mpsc::Sender<StdStream>,
    places: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Shared {
    fn met(&self) -> MutexGuard<'_, HashMap<DeviceId, Met>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the key of a device and where it is met.
    fn find(&self, device: &DeviceId) -> Option<Met> {
        let known = self.devices.now().key(device);
        let met = self.met().get(device).cloned();
        let key = known.or(met.as_ref().map(|met| met.key))?;
        let (relay, direct) = met.map(|met| (met.relay, met.direct)).unwrap_or_default();
        Some(Met { key, relay: relay.or_else(|| self.relay.clone()), direct })
    }
}

fn converted(relay: &Relay) -> gvm_tunnel::Relay {
    match relay {
        Relay::Public => gvm_tunnel::Relay::Public,
        Relay::Url(url) => gvm_tunnel::Relay::Url(url.clone()),
        Relay::Own(own) => gvm_tunnel::Relay::Own {
            authority: format!("{}:{}", own.host, own.port),
            port: own.port,
            pin: own.pin,
            token: own.token(),
        },
    }
}

impl Tunnels {
    /// Starts the tunnels. Returns what takes the connections for gpmd itself.
    ///
    /// # Errors
    /// `INTERNAL` if sockets cannot be opened; `PORT_IN_USE` if another process has the socket for tunnels.
    pub fn start(start: Start<'_>) -> Result<(Tunnels, tunnel::Listener)> {
        let Start { home, key, relay, devices, open, tls } = start;
        let (for_gpmd, streams) = mpsc::channel(WAITING);
        let address = Address::Tunnel { socket: home.tunnel_socket(), device: key.public().id(), node: None };
        let shared = Arc::new(Shared {
            home: home.clone(),
            devices: devices.clone(),
            met: Mutex::default(),
            relay: relay.clone(),
            for_gpmd,
            places: Arc::new(Semaphore::new(MOST)),
            strangers: Arc::new(Semaphore::new(MOST_STRANGERS)),
        });
        let accepts = move |bytes: &[u8; 32]| {
            let key = PublicKey::read(bytes);
            key.is_some_and(|key| open.load(Ordering::Acquire) || devices.now().key(&key.id()) == Some(key))
        };
        let setup = Setup {
            seed: key.secret().seed()?,
            relay: relay.as_ref().map(converted),
            bind: Vec::new(),
            accepts: Arc::new(accepts),
        };
        let stop = CancellationToken::new();
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let (running, stopped) = (shared.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("tunnels".into()).spawn(move || {
            let fail = |error| Error::io("cannot start the tunnels", error);
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(fail(error)))),
            };
            runtime.block_on(async {
                let begun = async {
                    let door = Door::bind(&running.home.tunnel_socket())?;
                    let tunnels = gvm_tunnel::Tunnels::bind(setup).await.map_err(fail)?;
                    Ok((door, tunnels))
                };
                match begun.await {
                    Ok((door, tunnels)) => {
                        let _ = ready.send(Ok(tunnels.clone()));
                        serve(&running, &door, &tunnels, &stopped).await;
                        tunnels.close().await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        });
        let thread = thread.map_err(|error| Error::io("cannot start a thread for tunnels", error))?;
        let tunnels = started.recv().map_err(|_| Error::internal("the thread for tunnels has ended"))??;
        let listener = tunnel::Listener::new(streams, address, tls);
        Ok((Tunnels { tunnels, relay, shared, stop, thread: Some(thread) }, listener))
    }

    /// Returns the relay that a person chose.
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Returns where other devices meet this one, for other devices.
    pub fn told(&self) -> Option<Relay> {
        match self.relay.as_ref()? {
            // Which one of them is in use is found out by measuring.
            Relay::Public => self.tunnels.relay().and_then(|url| url.parse().ok()),
            relay => Some(relay.clone()),
        }
    }

    /// Returns why the relay cannot be reached, if it cannot.
    pub fn problem(&self) -> Option<String> {
        self.tunnels.problem()
    }

    /// Returns whether this device is connected to its relay.
    pub fn is_online(&self) -> bool {
        self.tunnels.relay().is_some()
    }

    /// Notes where the device with this key is met.
    pub fn meets(&self, met: Met) {
        self.shared.met().insert(met.key.id(), met);
    }

    /// Returns the addresses for UDP of this device's sockets.
    pub fn bound(&self) -> Vec<SocketAddr> {
        self.tunnels.bound()
    }

    /// Returns the address at which processes of this device reach another one.
    pub fn address(&self, device: DeviceId) -> Address {
        Address::Tunnel { socket: self.shared.home.tunnel_socket(), device, node: None }
    }

    /// Returns how packets to a device travel; none without a connection to it.
    pub fn path(&self, key: &PublicKey) -> Option<Path> {
        let path = self.tunnels.path(key.bytes())?;
        Some(match path.by {
            gvm_tunnel::By::Direct(at) => Path { is_relayed: false, at: format!("udp:{at}") },
            gvm_tunnel::By::Relay(url) => Path { is_relayed: true, at: url },
        })
    }

    /// Ends the tunnels of devices that do not belong to the network any more.
    pub fn settle(&self) {
        let devices = self.shared.devices.now();
        self.shared.met().retain(|id, _| devices.key(id).is_some());
        self.tunnels.settle();
    }

    /// Notes that the addresses of this device have changed.
    pub async fn changed(&self) {
        self.tunnels.changed().await;
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(shared: &Arc<Shared>, door: &Door, tunnels: &gvm_tunnel::Tunnels, stop: &CancellationToken) {
    let mut passing = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = passing.join_next() => {}
            asked = door.accept() => match shared.places.clone().try_acquire_owned() {
                Ok(place) => {
                    let (shared, tunnels) = (shared.clone(), tunnels.clone());
                    passing.spawn(async move {
                        note(from_here(&shared, &tunnels, asked).await);
                        drop(place);
                    });
                }
                Err(_) => tracing::warn!("refused a tunnel: there are too many"),
            },
            Some(opened) = tunnels.next() => {
                let key = PublicKey::read(&opened.key);
                let is_known = key.is_some_and(|key| shared.devices.now().key(&key.id()) == Some(key));
                let places = if is_known { &shared.places } else { &shared.strangers };
                match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        let shared = shared.clone();
                        passing.spawn(async move {
                            note(from_there(&shared, opened).await);
                            drop(place);
                        });
                    }
                    Err(_) => tracing::warn!("refused a tunnel of another device: there are too many"),
                }
            }
        }
    }
}

fn note(ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!("a tunnel has ended: {error}");
    }
}

/// Opens a tunnel for a process of this device.
async fn from_here(shared: &Shared, tunnels: &gvm_tunnel::Tunnels, asked: Asked) -> io::Result<()> {
    let (wanted, stream) = asked.read().await?;
    let Some(Met { key, relay, direct }) = shared.find(&wanted.device) else {
        return stream.refuse("this device does not know it").await;
    };
    let purpose: [u8; PURPOSE] = tunnel::encode_node(wanted.node);
    match tunnels.open(key.bytes(), relay.as_ref().map(converted).as_ref(), &direct, &purpose).await {
        Ok(far) => pass(stream.grant().await?, far).await,
        Err(error) => {
            let relay = relay.map(|relay| format!(" (relay {})", relay.place())).unwrap_or_default();
            stream.refuse(&format!("{error}{relay}")).await
        }
    }
}

/// Takes a tunnel that another device has opened.
async fn from_there(shared: &Shared, opened: Opened) -> io::Result<()> {
    let (near, theirs) = StdStream::pair()?;
    theirs.set_nonblocking(true)?;
    match tunnel::read_node(&opened.purpose) {
        Some(node) => handover::hand(theirs, &shared.home.node_socket(node.id, node.incarnation)).await?,
        None => shared.for_gpmd.send(theirs).await.map_err(|_| io::ErrorKind::BrokenPipe)?,
    }
    near.set_nonblocking(true)?;
    pass(UnixStream::from_std(near)?, opened.take().await?).await
}

/// Passes bytes on in both directions until both have ended.
async fn pass(mut near: UnixStream, mut far: Stream) -> io::Result<()> {
    copy_bidirectional_with_sizes(&mut near, &mut far, HELD, HELD).await.map(drop)
}
