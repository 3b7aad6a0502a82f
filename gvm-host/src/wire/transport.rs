//! Connections between processes: a reader, a writer and the identity of the other end.
//!
//! In: an address, and for TCP the home's TLS configuration. Out: a [`Transport`] whose other end belongs to
//! our user or holds our key. Must not know: the messages that cross it; how the other end is authenticated
//! (`unix`, `tls`).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::socket::{Socket, Stream};
use super::tls::{self, Tls};
use super::{handover, tcp, tunnel, unix};
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::id::Hash;
use crate::base::node::Life;
use crate::trust::key::PublicKey;

/// One connection. `Send`, so it can move to the thread that serves it.
pub struct Transport {
    stream: Stream,
    /// Bytes that were read to find out what the connection is for, and are read again.
    again: Option<io::Cursor<[u8; 8]>>,
    pub peer: OtherEnd,
}

/// Who is at the other end, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtherEnd {
    /// A process of our own user on this device, according to the kernel; its process id if the kernel
    /// reports it.
    Local { pid: Option<i32> },
    /// A process that has proved by TLS that it holds this home's device key, or the key of a node.
    Home { at: Place },
    /// The gpmd of the device with this key, which may be the one of this home.
    Device { at: Place, key: PublicKey },
    /// This process itself.
    InMemory,
}

impl OtherEnd {
    /// Returns the process at the other end, if the kernel reports it.
    pub fn pid(&self) -> Option<u32> {
        match self {
            OtherEnd::Local { pid } => pid.and_then(|pid| u32::try_from(pid).ok()),
            _ => None,
        }
    }
}

/// Where the other end of a connection over the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Port(SocketAddr),
    /// Somewhere behind a NAT: gpmd passes the bytes on.
    Tunnel,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Port(at) => at.fmt(f),
            Place::Tunnel => f.write_str("the end of a tunnel"),
        }
    }
}

/// An address to dial: `unix:PATH`; `tcp:HOST:PORT` with a numeric host; `tcp:HOST:PORT/ID/INCARNATION` for a node whose gpmd
/// listens at that port and hands the connection to it; `tunnel:DEVICE/ID/INCARNATION:PATH` for a node that gpmd, at that
/// socket, reaches through NATs. DEVICE is the SHA-256 of the device's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
    Node {
        gpmd: SocketAddr,
        life: Life,
    },
    /// Without a node it is the gpmd of the device.
    Tunnel {
        socket: PathBuf,
        device: DeviceId,
        node: Option<Life>,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(at) => write!(f, "tcp:{at}"),
            Address::Node { gpmd, life } => write!(f, "tcp:{gpmd}/{}/{}", life.id, life.incarnation),
            Address::Tunnel { socket, device, node } => {
                write!(f, "tunnel:{}", device.0)?;
                if let Some(node) = node {
                    write!(f, "/{}/{}", node.id, node.incarnation)?;
                }
                write!(f, ":{}", socket.display())
            }
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address> {
        let address = match text.split_once(':') {
            Some(("unix", path)) => {
                Some(Path::new(path)).filter(|path| path.is_absolute()).map(|path| Address::Unix(path.into()))
            }
            Some(("tcp", at)) => match at.split_once('/') {
                None => port(at).map(Address::Tcp),
                Some((gpmd, life)) => {
                    port(gpmd).zip(read_life(life)).map(|(gpmd, life)| Address::Node { gpmd, life })
                }
            },
            Some(("tunnel", rest)) => read_tunnel(rest),
            _ => None,
        };
        address.ok_or_else(|| {
            Error::new(Code::Syntax, format!("`{text}` is not an address that this version can dial"))
                .with_help("write an address such as `unix:/PATH` or `tcp:127.0.0.1:5989`")
        })
    }
}

fn port(text: &str) -> Option<SocketAddr> {
    text.parse().ok().filter(|at: &SocketAddr| at.port() != 0)
}

fn read_life(text: &str) -> Option<Life> {
    let (id, incarnation) = text.split_once('/')?;
    Some(Life { id: id.parse().ok()?, incarnation: incarnation.parse().ok()? })
}

fn read_tunnel(text: &str) -> Option<Address> {
    let (to, socket) = text.split_once(':')?;
    let (device, node) = match to.split_once('/') {
        None => (to, None),
        Some((device, node)) => (device, Some(read_life(node)?)),
    };
    let socket = Path::new(socket);
    let device = DeviceId(device.parse::<Hash>().ok()?);
    socket.is_absolute().then(|| Address::Tunnel { socket: socket.into(), device, node })
}

impl Address {
    /// Returns the address of a node of the gpmd that has this address.
    pub fn of_node(self, life: Life) -> Address {
        match self {
            Address::Tcp(gpmd) => Address::Node { gpmd, life },
            Address::Tunnel { socket, device, .. } => Address::Tunnel { socket, device, node: Some(life) },
            address => address,
        }
    }

    /// Parses what a person types: an address, or `HOST[:PORT]`. A host name is looked up once. Blocks as
    /// long as the system's resolver does.
    ///
    /// # Errors
    /// `SYNTAX` if it is neither, or the name cannot be resolved.
    pub fn typed(text: &str, port: u16) -> Result<Address> {
        match text.split_once(':') {
            Some(("unix", _)) => text.parse(),
            Some(("tcp", at)) => host_and_port(at, port).map(Address::Tcp),
            _ => host_and_port(text, port).map(Address::Tcp),
        }
    }
}

/// Parses `ADDR[:PORT]`; `port` is the default. If ADDR is a name, blocks as long as the system's resolver
/// does.
///
/// # Errors
/// `SYNTAX` if ADDR is neither an IP address nor a name that can be resolved.
pub fn host_and_port(text: &str, port: u16) -> Result<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok((ip, port).into());
    }
    let found = match text.contains(':') {
        true => text.to_socket_addrs(),
        false => (text, port).to_socket_addrs(),
    };
    let unknown = |why: String| {
        Error::new(Code::Syntax, format!("`{text}` is not an address: {why}"))
            .with_help("write it as `ADDR` or `ADDR:PORT`")
    };
    let mut found = found.map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("the name has no address".into()))
}

impl Transport {
    /// Returns two connected ends in one process. Each direction buffers this many bytes.
    pub fn pair(capacity: usize) -> (Transport, Transport) {
        let (left, right) = tokio::io::duplex(capacity);
        (Transport::in_memory(left), Transport::in_memory(right))
    }

    fn in_memory(stream: tokio::io::DuplexStream) -> Transport {
        Transport::new(Stream::Memory(stream), OtherEnd::InMemory)
    }

    pub(super) fn new(stream: Stream, peer: OtherEnd) -> Transport {
        Transport { stream, again: None, peer }
    }

    /// Returns the same connection, which reads these bytes first.
    pub(super) fn reads_again(self, bytes: [u8; 8]) -> Transport {
        Transport { again: Some(io::Cursor::new(bytes)), ..self }
    }

    /// Returns bytes that only the two ends of this connection know (RFC 8446, section 7.5); none on a socket of this
    /// device, where the kernel says who is at the other end.
    ///
    /// # Errors
    /// `INTERNAL` if TLS cannot make them.
    pub fn binding(&self) -> Result<Vec<u8>> {
        self.stream.exported(b"EXPORTER-ghost-greeting")
    }

    /// Returns the certificate, in DER, of the other end of a TLS connection, which has proved that it has its key.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.stream.certificate()
    }

    /// Reads the first bytes of a connection that was just accepted. A node's own socket may bring a connection that gpmd
    /// has accepted for it: then that is the result.
    pub(super) async fn first_bytes(&mut self, bytes: &mut [u8; 8]) -> io::Result<Option<(Socket, Place)>> {
        let Stream::Plain(Socket::Unix(stream)) = &self.stream else {
            self.read_exact(bytes).await?;
            return Ok(None);
        };
        match handover::first_bytes(stream, bytes).await? {
            Some(descriptor) if *bytes == handover::HANDS => handover::taken(descriptor).map(Some),
            _ => Ok(None),
        }
    }

    /// Closes the connection. From now on, reads and writes fail.
    pub fn close(&mut self) {
        self.stream = Stream::Plain(Socket::Lost);
    }

    /// Moves the connection to the current runtime: from then on only threads of that runtime wake for it. Must be
    /// called on a tokio runtime.
    ///
    /// # Errors
    /// The operating system's; the connection is then closed.
    pub fn move_here(&mut self) -> io::Result<()> {
        self.stream.move_here()
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(again) = &mut self.again {
            let before = into.filled().len();
            let polled = Pin::new(again).poll_read(cx, into);
            if into.filled().len() > before || polled.is_pending() {
                return polled;
            }
            self.again = None;
        }
        Pin::new(&mut self.stream).poll_read(cx, into).map_err(|error| match error.kind() {
            // TLS without its last message: the other side has ended abruptly, as a reset connection says.
            io::ErrorKind::UnexpectedEof => io::ErrorKind::ConnectionReset.into(),
            // The other side has ended the connection too, because it does not know this one, or not yet.
            _ if tls::is_refusal(&error) => io::Error::new(io::ErrorKind::ConnectionAborted, error),
            _ => error,
        })
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Connects to an address, within some seconds. Must be called on a tokio runtime.
///
/// # Errors
/// The operating system's; the caller adds a noun. `NotFound` and `ConnectionRefused` mean that no process
/// listens there, `TimedOut` that the listener does not accept connections. `PermissionDenied` with an
/// `AUTH_FAILED` inside if the other end does not belong to this home, or if `tls` is missing for a TCP
/// address.
pub async fn dial(address: &Address, tls: Option<&Tls>) -> io::Result<Transport> {
    match (address, tls) {
        (Address::Unix(path), _) => unix::dial(path).await,
        (Address::Tcp(at), Some(tls)) => tcp::dial(*at, None, tls).await,
        (Address::Node { gpmd, life }, Some(tls)) => tcp::dial(*gpmd, Some(*life), tls).await,
        (Address::Tunnel { socket, device, node }, Some(tls)) => {
            tunnel::dial(socket, device, *node, tls).await
        }
        (Address::Tcp(_) | Address::Node { .. } | Address::Tunnel { .. }, None) => {
            let error = Error::new(Code::AuthFailed, format!("cannot dial {address} without a key"));
            Err(io::Error::new(io::ErrorKind::PermissionDenied, error))
        }
    }
}

/// Runs the server's side of the handshake on a connection that gpmd has handed to this node.
///
/// # Errors
/// Those of the handshake; `TimedOut`.
pub async fn handed(stream: Socket, from: Place, tls: &Tls) -> io::Result<Transport> {
    tcp::handed(stream, from, tls).await
}

fn coded(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Returns the message of an error of [`dial`], without the code of a coded one.
pub fn dial_words(error: &io::Error) -> String {
    match coded(error) {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

/// Returns the help of an error of [`dial`], if it has one.
pub fn dial_help(error: &io::Error) -> Option<&str> {
    coded(error).and_then(Error::help)
}

/// A listening socket file or port. Belongs to one thread; dropping it closes it.
#[non_exhaustive]
pub enum Listener {
    Unix(unix::Listener),
    Tcp(tcp::Listener),
    Tunnel(tunnel::Listener),
}

impl Listener {
    /// Listens on the socket file `path`, in a folder that only our user can enter. Replaces a file that a
    /// crashed process left behind. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// `PORT_IN_USE` if another process already listens there; `STORAGE_FULL`, `INTERNAL`.
    pub fn bind(path: &Path) -> Result<Listener> {
        unix::Listener::bind(path).map(Listener::Unix)
    }

    /// Listens on a TCP port and accepts only holders of the same key; port 0 takes a free port. Must be
    /// called on a tokio runtime.
    ///
    /// # Errors
    /// `PORT_IN_USE`; `SYNTAX` if the device has no such address; `INTERNAL`.
    pub fn bind_tcp(at: SocketAddr, tls: Tls) -> Result<Listener> {
        tcp::Listener::bind(at, tls).map(Listener::Tcp)
    }

    /// Hands connections that ask for a node to the socket file that `node` returns for it. Only for ports.
    pub fn hand_over(self, node: impl Fn(Life) -> Option<PathBuf> + 'static) -> Listener {
        match self {
            Listener::Tcp(listener) => Listener::Tcp(listener.hand_over(node)),
            Listener::Unix(_) | Listener::Tunnel(_) => self,
        }
    }

    /// Waits for the next connection whose other end belongs to our user or holds our key. May be dropped and
    /// called again: no connection is lost.
    ///
    /// # Errors
    /// `AUTH_FAILED` if another user reached a socket file; `OVERLOADED` if the process has no free
    /// descriptors. The listener keeps working after an error.
    pub async fn accept(&self) -> Result<Transport> {
        match self {
            Listener::Unix(listener) => listener.accept().await,
            Listener::Tcp(listener) => listener.accept().await,
            Listener::Tunnel(listener) => Ok(listener.accept().await),
        }
    }

    /// Returns where it can be dialled.
    pub fn address(&self) -> Address {
        match self {
            Listener::Unix(listener) => Address::Unix(listener.path().into()),
            Listener::Tcp(listener) => Address::Tcp(listener.address()),
            Listener::Tunnel(listener) => listener.address().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_what_they_write() {
        let node = "tcp:[::1]:1111/67e55044-10b1-426f-9247-bb680e5fe0c8/17";
        let device = format!("tunnel:{}", Hash::of(b"pi"));
        let (far, farther) = (
            format!("{device}/67e55044-10b1-426f-9247-bb680e5fe0c8/17:/h/t:u.sock"),
            format!("{device}:/h/t.sock"),
        );
        for text in ["unix:/home/me/x.sock", "tcp:127.0.0.1:5989", "tcp:[::1]:1111", node, &far, &farther] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for bad in [
            "tcp:1.2.3.4:5/x/1",
            "tcp:1.2.3.4:5/",
            "unix:x.sock",
            "tcp:x",
            "tcp:1.2.3.4",
            "tcp:1.2.3.4:0",
            "tcp:::1:5",
            "",
            "unix:",
            "quic:/x",
            "tunnel:ab:/x",
            &format!("{device}:x"),
            &device,
        ] {
            assert_eq!(bad.parse::<Address>().unwrap_err().code(), Code::Syntax, "{bad}");
        }
    }

    #[test]
    fn typed_addresses() {
        let typed = |text| Address::typed(text, 5989).map(|address| address.to_string());
        assert_eq!(typed("127.0.0.1").unwrap(), "tcp:127.0.0.1:5989");
        assert_eq!(typed("tcp:127.0.0.1:7").unwrap(), "tcp:127.0.0.1:7");
        assert_eq!(typed("::1").unwrap(), "tcp:[::1]:5989");
        assert_eq!(typed("[::1]").unwrap(), "tcp:[::1]:5989");
        assert_eq!(typed("[::1]:7").unwrap(), "tcp:[::1]:7");
        assert_eq!(typed("unix:/x").unwrap(), "unix:/x");
        assert_eq!(typed("").unwrap_err().code(), Code::Syntax);
    }
}
