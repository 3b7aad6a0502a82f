//! Tunnels: connections to other devices whose bytes gpmd passes on, because the devices cannot reach each other by TCP.
//!
//! In: on the dialling side, gpmd's socket for tunnels, and the device and node that are wanted; on the other side, sockets whose
//! other end gpmd holds. Out: transports whose other end has proved by TLS who it is. Must not know: how gpmd reaches the
//! other device.
//!
//! Who dials says first what it wants. gpmd answers when it has reached it, or why it could not. Then TLS begins, between the
//! two ends: gpmd passes on what it cannot read.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

use super::arriving::{Arriving, HANDSHAKE, late};
use super::socket::Socket;
use super::tls::Tls;
use super::transport::{Address, Place, Transport};
use super::unix;
use crate::base::device::DeviceId;
use crate::base::error::Result;
use crate::base::id::Hash;
use crate::base::inert;
use crate::base::node::Life;

/// The first bytes of a request to gpmd.
const ASKS: [u8; 8] = *b"GVM tunl";

/// The length of a request: the first bytes, the device, the node.
const REQUEST: usize = 8 + 32 + NODE;

/// The length of a node in a request. Zeros mean the gpmd of the device.
pub const NODE: usize = 24;

/// The longest reason why a device cannot be reached.
const REASON: usize = 1000;

/// How long dialling may take: the relay, a handshake, then another one across the world.
const DIAL: Duration = Duration::from_secs(20);

/// How long a request may take to arrive.
const ASK: Duration = Duration::from_secs(5);

/// What is wanted at the other end of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub device: DeviceId,
    /// Without a node it is the gpmd of the device.
    pub node: Option<Life>,
}

/// Returns a node in the form that crosses.
pub fn encode_node(node: Option<Life>) -> [u8; NODE] {
    let mut bytes = [0; NODE];
    if let Some(node) = node {
        bytes[..16].copy_from_slice(node.id.as_bytes());
        bytes[16..].copy_from_slice(&node.incarnation.to_le_bytes());
    }
    bytes
}

/// Reads a node in the form that crosses.
pub fn read_node(bytes: &[u8; NODE]) -> Option<Life> {
    let (mut id, mut incarnation) = ([0; 16], [0; 8]);
    id.copy_from_slice(&bytes[..16]);
    incarnation.copy_from_slice(&bytes[16..]);
    let life = Life { id: Uuid::from_bytes(id), incarnation: u64::from_le_bytes(incarnation) };
    (*bytes != [0; NODE]).then_some(life)
}

/// gpmd's socket for tunnels. Dropping it removes the socket file.
pub struct Door(unix::Listener);

impl Door {
    /// Listens on the socket file `path`. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// `PORT_IN_USE` if another process already listens there; `STORAGE_FULL`, `INTERNAL`.
    pub fn bind(path: &Path) -> Result<Door> {
        unix::Listener::bind(path).map(Door)
    }

    /// Waits for the next process of our own user that wants a tunnel. May be dropped and called again.
    pub async fn accept(&self) -> Asked {
        Asked(self.0.next_stream("a request for a tunnel").await)
    }
}

/// A process that wants a tunnel and has not said where to.
pub struct Asked(UnixStream);

/// A process that waits for its tunnel.
pub struct Waiting(UnixStream);

impl Asked {
    /// Reads what the process wants.
    ///
    /// # Errors
    /// `InvalidData` if it is not a request; `TimedOut`; errors of the socket.
    pub async fn read(mut self) -> io::Result<(Wanted, Waiting)> {
        let mut bytes = [0; REQUEST];
        timeout(ASK, self.0.read_exact(&mut bytes)).await??;
        let (mut device, mut node) = ([0; 32], [0; NODE]);
        device.copy_from_slice(&bytes[8..40]);
        node.copy_from_slice(&bytes[40..]);
        if bytes[..8] != ASKS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok((Wanted { device: DeviceId(Hash(device)), node: read_node(&node) }, Waiting(self.0)))
    }
}

impl Waiting {
    /// Tells the process that the other end is reached. What follows is between the two ends.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn grant(mut self) -> io::Result<UnixStream> {
        self.0.write_u16_le(0).await?;
        Ok(self.0)
    }

    /// Tells the process why the other end cannot be reached.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn refuse(mut self, reason: &str) -> io::Result<()> {
        let mut end = reason.len().min(REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = if end == 0 { "it cannot be reached" } else { &reason[..end] };
        self.0.write_u16_le(reason.len() as u16).await?;
        self.0.write_all(reason.as_bytes()).await
    }
}

/// Connects through gpmd.
///
/// # Errors
/// `PermissionDenied` with an `AUTH_FAILED` inside if `tls` does not accept the other end; `TimedOut`; `NotFound` and
/// `ConnectionRefused` if gpmd has no tunnels; `HostUnreachable` with gpmd's reason; errors of the socket.
pub(super) async fn dial(
    socket: &Path,
    device: &DeviceId,
    node: Option<Life>,
    tls: &Tls,
) -> io::Result<Transport> {
    let connecting = async {
        let mut stream = unix::connect(socket).await?;
        let mut request = [0; REQUEST];
        request[..8].copy_from_slice(&ASKS);
        request[8..40].copy_from_slice(&device.0.0);
        request[40..].copy_from_slice(&encode_node(node));
        stream.write_all(&request).await?;
        let length = usize::from(stream.read_u16_le().await?).min(REASON);
        if length > 0 {
            let mut reason = vec![0; length];
            stream.read_exact(&mut reason).await?;
            let reason = inert::line(&String::from_utf8_lossy(&reason)).into_owned();
            return Err(io::Error::new(io::ErrorKind::HostUnreachable, reason));
        }
        tls.connect(Socket::Unix(stream), Place::Tunnel).await
    };
    timeout(DIAL, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Takes the connections that came through tunnels for gpmd itself. Belongs to one thread.
pub struct Listener {
    streams: RefCell<mpsc::Receiver<std::os::unix::net::UnixStream>>,
    address: Address,
    tls: Tls,
    arriving: RefCell<Arriving>,
}

impl Listener {
    /// Takes these sockets, whose other ends gpmd's tunnels hold. `address` is for people.
    pub fn new(
        streams: mpsc::Receiver<std::os::unix::net::UnixStream>,
        address: Address,
        tls: Tls,
    ) -> Listener {
        Listener { streams: RefCell::new(streams), address, tls, arriving: RefCell::default() }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for the next connection that has proved who it is. Others are closed. May be dropped and called again: no handshake
    /// is lost. Does not end when there are no tunnels any more.
    pub(super) async fn accept(&self) -> Transport {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Transport> {
        let mut arriving = self.arriving.borrow_mut();
        while let Poll::Ready(Some(stream)) = self.streams.borrow_mut().poll_recv(cx) {
            if arriving.begin(greet(stream, self.tls.clone())) {
                tracing::debug!("closed a connection through a tunnel: too many unfinished handshakes");
            }
        }
        arriving.poll(cx, |error| tracing::debug!("refused a connection through a tunnel: {error}"))
    }
}

async fn greet(stream: std::os::unix::net::UnixStream, tls: Tls) -> io::Result<Option<Transport>> {
    stream.set_nonblocking(true)?;
    let stream = Socket::Unix(UnixStream::from_std(stream)?);
    let greeting = timeout(HANDSHAKE, tls.accept(stream, Place::Tunnel)).await;
    greeting.unwrap_or_else(|_| Err(late(Place::Tunnel))).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_read_what_they_write() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let life = Life { id: Uuid::from_u128(7), incarnation: 9 };
            assert_eq!(read_node(&encode_node(Some(life))), Some(life));
            assert_eq!(read_node(&encode_node(None)), None);
            let asked = async |bytes: &[u8]| {
                let (mut near, far) = UnixStream::pair().unwrap();
                near.write_all(bytes).await.unwrap();
                drop(near);
                Asked(far).read().await.map(|(wanted, _)| wanted)
            };
            let device = DeviceId(Hash::of(b"pi"));
            let request = [&ASKS[..], &device.0.0, &encode_node(Some(life))].concat();
            assert_eq!(asked(&request).await.unwrap(), Wanted { device, node: Some(life) });
            assert_eq!(asked(&[b'x'; REQUEST]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert_eq!(asked(&request[1..]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            for (reason, length) in [("", 20), ("no", 2), ("ü".repeat(REASON).as_str(), REASON)] {
                let (mut near, far) = UnixStream::pair().unwrap();
                Waiting(far).refuse(reason).await.unwrap();
                let mut said = Vec::new();
                near.read_to_end(&mut said).await.unwrap();
                assert_eq!(usize::from(u16::from_le_bytes([said[0], said[1]])), length);
                assert!(String::from_utf8(said[2..].to_vec()).is_ok_and(|said| said.len() == length));
            }
        });
    }
}
