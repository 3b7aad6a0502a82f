//! The connections of this device by iroh, one per other device, and the streams on them.
//!
//! In: keys of other devices, the relay that each of them uses. Out: streams, opened by this device or by the other one. Must not
//! know: what a stream is for; the first bytes, which say that, are the user's.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::endpoint::{
    Connection, IdleTimeout, Incoming, QuicTransportConfig, RecvStream, SendStream, VarInt, presets,
};
use iroh::tls::CaTlsConfig;
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayConfig, RelayMap, RelayMode, RelayUrl, SecretKey, TransportAddr,
    Watcher,
};
use iroh_relay::RelayQuicConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::Relay;
use crate::pin::{Pins, Verifier};

/// The protocol name (ALPN).
const PROTOCOL: &[u8] = b"ghost/tunnel/1";

/// The bytes at the beginning of a stream that say what it is for.
pub const PURPOSE: usize = 24;

/// The first byte of the answer to them.
const TAKEN: u8 = 1;

/// How long a connection may take: relay, handshake, some round trips across the world.
const DIAL: Duration = Duration::from_secs(10);

/// How long the other device may take to take a stream. A connection on which it takes longer is given up.
const TAKE: Duration = Duration::from_secs(4);

/// How long a stream that was opened may take to say what it is for.
const SAY: Duration = Duration::from_secs(5);

/// The most handshakes at once of devices that dialled this one.
const HANDSHAKES: usize = 64;

/// The most streams of one connection in each direction. A session of nodes has some.
const STREAMS: u32 = 4096;

/// The most streams that wait to be taken.
const WAITING: usize = 64;

/// How much of a stream may be on its way: 10 MB per second at a round trip of 100 ms. More must not be: noq-proto 1.4 gives
/// a connection up if a slow reader leaves it with more than 1,024 packets of a stream, also without gaps between them
/// (quinn-rs/quinn#2809), and packets have 1,200 bytes at least if they are full.
const WINDOW: u32 = 1 << 20;
const WINDOW_OF_ALL: u32 = 16 << 20;

/// How long a connection or a path may be silent.
const SILENT: Duration = Duration::from_secs(10);
const PATH_SILENT: Duration = Duration::from_secs(4);
const ALIVE: Duration = Duration::from_millis(1500);

/// Both directions of a stream.
pub type Stream = tokio::io::Join<RecvStream, SendStream>;

/// Decides whether the owner of a key may open streams.
pub type Accepts = Arc<dyn Fn(&[u8; 32]) -> bool + Send + Sync>;

/// How this device takes part.
pub struct Setup {
    /// The private Ed25519 key of this device (RFC 8032, section 5.1.5).
    pub seed: [u8; 32],
    pub relay: Option<Relay>,
    /// The addresses for UDP; none: all interfaces, on a free port.
    pub bind: Vec<SocketAddr>,
    pub accepts: Accepts,
}

/// How the packets to another device travel at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The address of the other device, or the URL of the relay.
    pub by: By,
    pub round_trip: Duration,
}

/// The other end of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    Direct(SocketAddr),
    Relay(String),
}

/// A stream that another device has opened.
pub struct Opened {
    /// The key that the other device has proved.
    pub key: [u8; 32],
    pub purpose: [u8; PURPOSE],
    stream: Stream,
}

impl Opened {
    /// Takes the stream, and tells the other device so.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn take(mut self) -> io::Result<Stream> {
        self.stream.write_all(&[TAKEN]).await?;
        Ok(self.stream)
    }
}

#[derive(Default)]
struct Slot {
    dialling: tokio::sync::Mutex<()>,
    connection: Mutex<Option<Connection>>,
}

impl Slot {
    fn live(&self) -> Option<Connection> {
        locked(&self.connection).clone().filter(|connection| connection.close_reason().is_none())
    }
}

/// The connections of this device. Clones share them. `Send + Sync`.
#[derive(Clone)]
pub struct Tunnels(Arc<Inner>);

struct Inner {
    endpoint: Endpoint,
    pins: Pins,
    accepts: Accepts,
    others: Mutex<HashMap<[u8; 32], Arc<Slot>>>,
    opening: mpsc::Sender<Opened>,
    opened: tokio::sync::Mutex<mpsc::Receiver<Opened>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what.to_owned())
}

/// Returns how iroh reaches a relay.
fn configured(relay: &Relay, pins: &Pins) -> io::Result<Option<RelayConfig>> {
    let url = |text: &str| text.parse::<RelayUrl>().map_err(failed);
    match relay {
        Relay::Public => Ok(None),
        Relay::Url(text) => Ok(Some(RelayConfig::from(url(text)?))),
        Relay::Own { authority, port, pin, token } => {
            pins.add(*pin);
            let quic = RelayQuicConfig::new(*port);
            let config = RelayConfig::new(url(&format!("https://{authority}/"))?, Some(quic));
            Ok(Some(config.with_auth_token(token)))
        }
    }
}

fn transport() -> io::Result<QuicTransportConfig> {
    let silent = IdleTimeout::try_from(SILENT).map_err(failed)?;
    Ok(QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(WINDOW_OF_ALL))
        .send_window(u64::from(WINDOW_OF_ALL))
        .max_idle_timeout(Some(silent))
        .default_path_max_idle_timeout(PATH_SILENT)
        .default_path_keep_alive_interval(ALIVE)
        .datagram_receive_buffer_size(None)
        .build())
}

impl Tunnels {
    /// Opens the sockets. Must be called on a tokio runtime, which drives all connections.
    ///
    /// # Errors
    /// If a socket cannot be opened, or the address of the relay is not one.
    pub async fn bind(setup: Setup) -> io::Result<Tunnels> {
        let pins = Pins::default();
        let mode = match &setup.relay {
            None => RelayMode::Disabled,
            Some(relay) => match configured(relay, &pins)? {
                Some(config) => RelayMode::Custom(RelayMap::from(config)),
                None => RelayMode::Default,
            },
        };
        let known = pins.clone();
        let verifying = CaTlsConfig::custom_server_cert_verifier(Arc::new(move |provider| {
            Ok(Arc::new(Verifier::new(known.clone(), provider)?) as _)
        }));
        let mut builder = Endpoint::builder(presets::Minimal)
            .secret_key(SecretKey::from_bytes(&setup.seed))
            .alpns(vec![PROTOCOL.to_vec()])
            .ca_tls_config(verifying)
            .transport_config(transport()?)
            .relay_mode(mode);
        if !setup.bind.is_empty() {
            builder = builder.clear_ip_transports();
        }
        for at in &setup.bind {
            builder = builder.bind_addr(*at).map_err(failed)?;
        }
        let endpoint = builder.bind().await.map_err(failed)?;
        let (opening, opened) = mpsc::channel(WAITING);
        let opened = tokio::sync::Mutex::new(opened);
        let (accepts, others) = (setup.accepts, Mutex::default());
        let tunnels = Tunnels(Arc::new(Inner { endpoint, pins, accepts, others, opening, opened }));
        tokio::spawn(tunnels.clone().accept_all());
        Ok(tunnels)
    }

    /// Returns the addresses for UDP of this device's sockets.
    pub fn bound(&self) -> Vec<SocketAddr> {
        self.0.endpoint.bound_sockets()
    }

    /// Returns the URL of the relay at which other devices meet this one; none before there is a connection to it.
    pub fn relay(&self) -> Option<String> {
        let status = self.0.endpoint.home_relay_status().get();
        status
            .into_iter()
            .find(iroh::endpoint::RelayStatus::is_connected)
            .map(|relay| relay.url().to_string())
    }

    /// Returns why there is no connection to a relay, if that is known.
    pub fn problem(&self) -> Option<String> {
        let status = self.0.endpoint.home_relay_status().get();
        match status.iter().any(iroh::endpoint::RelayStatus::is_connected) {
            true => None,
            false => status.iter().find_map(|relay| {
                let denied = relay.auth_denied_reason().map(str::to_owned);
                denied.or_else(|| relay.last_error().map(|error| format!("{error:#}")))
            }),
        }
    }

    /// Waits until there is a connection to the relay.
    pub async fn online(&self) {
        self.0.endpoint.online().await;
    }

    fn slot(&self, key: &[u8; 32]) -> Arc<Slot> {
        locked(&self.0.others).entry(*key).or_default().clone()
    }

    /// Opens a stream to the device with this key, which is met at this relay. `direct` are addresses for UDP to try besides.
    ///
    /// # Errors
    /// `TimedOut`, or with the reason in words.
    pub async fn open(
        &self,
        key: &[u8; 32],
        relay: Option<&Relay>,
        direct: &[SocketAddr],
        purpose: &[u8; PURPOSE],
    ) -> io::Result<Stream> {
        let slot = self.slot(key);
        if let Some(connection) = slot.live() {
            match opened(&connection, purpose).await {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    // The other device has ended, or is out of reach.
                    connection.close(VarInt::from_u32(0), b"");
                }
                Err(_) if connection.close_reason().is_some() => {}
                result => return result,
            }
        }
        let connection = {
            let _turn = slot.dialling.lock().await;
            match slot.live() {
                Some(connection) => connection,
                None => {
                    let connection = self.dial(key, relay, direct).await?;
                    *locked(&slot.connection) = Some(connection.clone());
                    // The other device may open streams on this connection too.
                    let (taking, opening) = (connection.clone(), self.0.opening.clone());
                    tokio::spawn(async move { take_streams(&taking, &opening).await });
                    connection
                }
            }
        };
        opened(&connection, purpose).await
    }

    async fn dial(
        &self,
        key: &[u8; 32],
        relay: Option<&Relay>,
        direct: &[SocketAddr],
    ) -> io::Result<Connection> {
        let id = EndpointId::from_bytes(key).map_err(failed)?;
        let mut address = EndpointAddr::new(id);
        if let Some(config) = relay.map(|relay| configured(relay, &self.0.pins)).transpose()?.flatten() {
            let url = config.url.clone();
            address = address.with_relay_url(url.clone());
            self.0.endpoint.insert_relay(url, Arc::new(config)).await;
        }
        for at in direct {
            address = address.with_ip_addr(*at);
        }
        let dialling = self.0.endpoint.connect(address, PROTOCOL);
        let dialled = timeout(DIAL, dialling).await.map_err(|_| timed_out("no answer"))?;
        dialled.map_err(|error| io::Error::other(format!("{error:#}")))
    }

    /// Returns how packets to the device with this key travel; none without a connection.
    pub fn path(&self, key: &[u8; 32]) -> Option<Path> {
        let slot = locked(&self.0.others).get(key).cloned()?;
        let connection = slot.live()?;
        let paths = connection.paths();
        let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next())?;
        let by = match path.remote_addr() {
            TransportAddr::Ip(at) => By::Direct(*at),
            TransportAddr::Relay(url) => By::Relay(url.to_string()),
            _ => return None,
        };
        Some(Path { by, round_trip: path.rtt() })
    }

    /// Closes the connections to devices that are not accepted any more.
    pub fn settle(&self) {
        locked(&self.0.others).retain(|key, slot| {
            let stays = (self.0.accepts)(key);
            if let Some(connection) = slot.live().filter(|_| !stays) {
                connection.close(VarInt::from_u32(0), b"");
            }
            stays
        });
    }

    /// Tells iroh that the addresses of this device may have changed. It also notices that itself, a little later.
    pub async fn changed(&self) {
        self.0.endpoint.network_change().await;
    }

    /// Waits for the next stream that another device opens. None after the end.
    pub async fn next(&self) -> Option<Opened> {
        self.0.opened.lock().await.recv().await
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.0.endpoint.close().await;
    }

    async fn accept_all(self) {
        let places = Arc::new(Semaphore::new(HANDSHAKES));
        while let Some(incoming) = self.0.endpoint.accept().await {
            let Ok(place) = places.clone().try_acquire_owned() else {
                tracing::debug!("refused a connection by iroh: too many handshakes");
                incoming.refuse();
                continue;
            };
            let tunnels = self.clone();
            tokio::spawn(async move {
                let accepted = timeout(DIAL, tunnels.accept(incoming)).await;
                drop(place);
                match accepted {
                    Ok(Ok(connection)) => take_streams(&connection, &tunnels.0.opening).await,
                    Ok(Err(error)) => tracing::debug!("refused a connection by iroh: {error}"),
                    Err(_) => tracing::debug!("a connection by iroh took too long"),
                }
            });
        }
    }

    /// Completes a handshake. The other device has then proved its key.
    async fn accept(&self, incoming: Incoming) -> io::Result<Connection> {
        let connection = incoming.await.map_err(failed)?;
        let key = *connection.remote_id().as_bytes();
        if !(self.0.accepts)(&key) {
            connection.close(VarInt::from_u32(0), b"");
            return Err(failed("it does not belong to the network"));
        }
        let slot = self.slot(&key);
        if slot.live().is_none() {
            *locked(&slot.connection) = Some(connection.clone());
        }
        Ok(connection)
    }
}

/// Opens a stream on a connection.
async fn opened(connection: &Connection, purpose: &[u8; PURPOSE]) -> io::Result<Stream> {
    let opening = async {
        let (mut writer, mut reader) = connection.open_bi().await.map_err(failed)?;
        writer.write_all(purpose).await.map_err(failed)?;
        let mut answer = [0];
        AsyncReadExt::read_exact(&mut reader, &mut answer).await?;
        match answer {
            [TAKEN] => Ok(tokio::io::join(reader, writer)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    };
    timeout(TAKE, opening).await.unwrap_or_else(|_| Err(timed_out("no answer")))
}

/// Takes the streams that the other device opens, until the connection ends.
async fn take_streams(connection: &Connection, sender: &mpsc::Sender<Opened>) {
    let key = *connection.remote_id().as_bytes();
    while let Ok((writer, reader)) = connection.accept_bi().await {
        let sender = sender.clone();
        tokio::spawn(async move {
            let mut stream = tokio::io::join(reader, writer);
            let mut purpose = [0; PURPOSE];
            if let Ok(Ok(_)) = timeout(SAY, stream.read_exact(&mut purpose)).await {
                let _ = sender.send(Opened { key, purpose, stream }).await;
            }
        });
    }
}
