//! Connections from other devices that gpmd hands to a node.
//!
//! In: on the dialling side, the node that is wanted; in gpmd, a connection that was accepted, and the socket of the node.
//! Out: in the node, the connection itself, as if the node had accepted it. Must not know: who dials; TLS runs between the
//! two nodes, and begins after the handover.
//!
//! So all nodes of a device are reached by the one port of its gpmd, which a firewall must let pass, and gpmd is not a part
//! of the connection afterwards: it passes the descriptor of the socket (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, getsockname, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use uuid::Uuid;

use super::socket::Socket;
use super::transport::Place;
use super::unix;
use crate::base::node::Life;

/// The first bytes of a connection to gpmd that asks for a node. TLS begins with another byte.
const ASKS: [u8; 8] = *b"GVM node";

/// The first bytes that gpmd sends to a node with the descriptor.
pub(super) const HANDS: [u8; 8] = *b"GVM hand";

/// How long a node may take to take a connection.
const TAKE: Duration = Duration::from_secs(5);

/// Asks the gpmd at the other end for a node. What follows reaches the node.
pub(super) async fn ask(stream: &mut TcpStream, node: Life) -> io::Result<()> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&ASKS);
    bytes[8..24].copy_from_slice(node.id.as_bytes());
    bytes[24..].copy_from_slice(&node.incarnation.to_le_bytes());
    stream.write_all(&bytes).await
}

/// Returns the node that a connection asks for, or `None` if it is for gpmd itself.
pub(super) async fn asked(stream: &mut TcpStream) -> io::Result<Option<Life>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first[0] != ASKS[0] {
        return Ok(None);
    }
    let mut bytes = [0; 32];
    stream.read_exact(&mut bytes).await?;
    let (asks, node) = bytes.split_at(8);
    let (id, incarnation) = node.split_at(16);
    match (asks == ASKS, <[u8; 16]>::try_from(id), <[u8; 8]>::try_from(incarnation)) {
        (true, Ok(id), Ok(incarnation)) => {
            Ok(Some(Life { id: Uuid::from_bytes(id), incarnation: u64::from_le_bytes(incarnation) }))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Hands a connection to the node that listens on this socket file.
pub async fn hand(stream: impl AsFd, node: &Path) -> io::Result<()> {
    let handing = async {
        let node = unix::connect(node).await?;
        send(stream, &node).await
    };
    timeout(TAKE, handing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Sends a connection to the process at the other end of a socket.
pub(super) async fn send(stream: impl AsFd, to: &UnixStream) -> io::Result<()> {
    loop {
        to.writable().await?;
        let sent = to.try_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = [stream.as_fd()];
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            let sent = sendmsg(to, &[IoSlice::new(&HANDS)], &mut ancillary, SendFlags::empty());
            Ok(sent?)
        });
        match sent {
            Ok(sent) if sent == HANDS.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Reads the first bytes of a connection on a node's own socket, and the descriptor that came with them.
pub(super) async fn first_bytes(stream: &UnixStream, bytes: &mut [u8; 8]) -> io::Result<Option<OwnedFd>> {
    let mut got = 0;
    let mut descriptor = None;
    while got < bytes.len() {
        stream.readable().await?;
        let read = stream.try_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut into = [IoSliceMut::new(&mut bytes[got..])];
            let read = recvmsg(stream, &mut into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    descriptor = descriptors.into_iter().next();
                }
            }
            Ok(read.bytes)
        });
        match read {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => got += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(descriptor)
}

/// Converts a descriptor that gpmd has passed into the connection, with the address of its other end. A Unix socket is the end
/// of a tunnel.
pub(super) fn taken(descriptor: OwnedFd) -> io::Result<(Socket, Place)> {
    if getsockname(&descriptor)?.address_family() == AddressFamily::UNIX {
        let stream = std::os::unix::net::UnixStream::from(descriptor);
        stream.set_nonblocking(true)?;
        return Ok((Socket::Unix(UnixStream::from_std(stream)?), Place::Tunnel));
    }
    let stream = std::net::TcpStream::from(descriptor);
    let from = stream.peer_addr()?;
    stream.set_nonblocking(true)?;
    Ok((Socket::Tcp(TcpStream::from_std(stream)?), Place::Port(from)))
}
