//! TCP: listens on a port and dials another.
//!
//! In: a socket address, and whom to trust. Out: transports whose other end has proved who it is. Must not know: the
//! messages that cross them.
//!
//! Anyone may dial. Until the handshake is complete, a connection costs one socket and some kilobytes, for a
//! bounded time, and does not delay other connections.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::arriving::{Arriving, HANDSHAKE, late};
use super::socket::Socket;
use super::tls::Tls;
use super::transport::{Place, Transport};
use super::{connector, handover};
use crate::base::error::{Code, Error, Result};
use crate::base::node::Life;

/// How long dialling may take, handshake included: a few round trips across the world.
const DIAL: Duration = Duration::from_secs(5);

/// The most connections that the kernel queues until we accept them, for busy moments and floods.
const WAITING: u32 = 1024;

/// The time between two keepalive probes of the kernel to a silent host; after three the connection is
/// closed.
#[cfg(target_os = "linux")]
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The time between two log lines about refused connections.
const QUIET: Duration = Duration::from_secs(10);

/// Connects to a port; with a node, to that node of the gpmd that listens there.
///
/// # Errors
/// `PermissionDenied` with an `AUTH_FAILED` inside if `tls` does not accept the other end; `TimedOut`; errors of the socket.
pub(super) async fn dial(at: SocketAddr, node: Option<Life>, tls: &Tls) -> io::Result<Transport> {
    let connecting = async {
        let mut stream = connector::connect(at).await?;
        // The kernel may connect a free local port to itself.
        if stream.local_addr()? == at {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        prepare(&stream)?;
        if let Some(node) = node {
            handover::ask(&mut stream, node).await?;
        }
        tls.connect(Socket::Tcp(stream), Place::Port(at)).await
    };
    timeout(DIAL, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Sends small messages without delay, and lets the kernel notice a host that disappeared silently.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    #[cfg(target_os = "linux")]
    {
        sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?;
        sockopt::set_tcp_keepcnt(stream, 3)?;
    }
    Ok(())
}

/// Returns the socket file of a node.
type Nodes = Rc<dyn Fn(Life) -> Option<PathBuf>>;

/// A listening port. Belongs to one thread; dropping it closes the port and the unfinished handshakes.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Tls,
    /// The nodes to which connections are handed.
    nodes: Option<Nodes>,
    arriving: RefCell<Arriving>,
    /// When the last warning was logged.
    warned: Cell<Option<Instant>>,
}

impl Listener {
    /// Listens on `at`; port 0 takes a free port. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// `PORT_IN_USE`; `SYNTAX` if the device has no such address; `INTERNAL`.
    pub(super) fn bind(at: SocketAddr, tls: Tls) -> Result<Listener> {
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                Error::new(Code::PortInUse, format!("another process uses port {} of {}", at.port(), at.ip()))
                    .with_help("choose another port, or end that process")
            }
            io::ErrorKind::AddrNotAvailable => {
                Error::new(Code::Syntax, format!("this device has no address `{}`", at.ip()))
                    .with_help("choose an address of this device, such as 127.0.0.1")
            }
            _ => Error::io(format_args!("cannot listen on tcp:{at}"), error),
        };
        let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(fail)?;
        // Allows the port of a process that has just ended.
        socket.set_reuseaddr(true).map_err(fail)?;
        if at.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            // Both families, whatever the system's default is.
            rustix::net::sockopt::set_ipv6_v6only(&socket, false).map_err(|error| fail(error.into()))?;
        }
        socket.bind(at).map_err(fail)?;
        let socket = socket.listen(WAITING).map_err(fail)?;
        let address = reachable(socket.local_addr().map_err(fail)?);
        let (arriving, warned) = Default::default();
        Ok(Listener { socket, address, tls, nodes: None, arriving, warned })
    }

    /// Hands connections that ask for a node to the socket file that `node` returns for it.
    pub(super) fn hand_over(self, node: impl Fn(Life) -> Option<PathBuf> + 'static) -> Listener {
        Listener { nodes: Some(Rc::new(node)), ..self }
    }

    /// Returns where it can be dialled. If it listens on every address, returns the one that others see.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next connection that has proved that it belongs to this home. Other connections are
    /// closed, and the wait continues. May be dropped and called again: no handshake is lost.
    ///
    /// # Errors
    /// `OVERLOADED` if the process has no free descriptors.
    pub(super) async fn accept(&self) -> Result<Transport> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Transport>> {
        let mut arriving = self.arriving.borrow_mut();
        match self.socket.poll_accept(cx) {
            Poll::Ready(Ok((stream, from))) => {
                if arriving.begin(greet(stream, from, self.tls.clone(), self.nodes.clone())) {
                    self.log_refusal("too many unfinished handshakes; this one is the oldest");
                }
                cx.waker().wake_by_ref();
            }
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(Error::new(
                    Code::Overloaded,
                    format!("cannot accept a connection: {error}"),
                )
                .with_source(error)));
            }
            Poll::Pending => {}
        }
        arriving.poll(cx, |error| self.log_refusal(&error.to_string())).map(Ok)
    }

    /// Logs a refused connection. Limits the rate of warnings, so that strangers cannot fill the log.
    fn log_refusal(&self, why: &str) {
        if self.warned.get().is_some_and(|last| last.elapsed() < QUIET) {
            tracing::debug!(port = self.address.port(), "refused a connection: {why}");
        } else {
            self.warned.set(Some(Instant::now()));
            tracing::warn!(port = self.address.port(), "refused a connection: {why}");
        }
    }
}

/// Returns an address that can be dialled. Replaces an unspecified address by the one from which this device
/// speaks to others, or by the loopback address if it has no network.
fn reachable(at: SocketAddr) -> SocketAddr {
    if !at.ip().is_unspecified() {
        return at;
    }
    // Addresses reserved for documentation: nothing is sent, the system only chooses the local address.
    let (loopback, elsewhere): (IpAddr, IpAddr) = match at {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        SocketAddr::V6(_) => {
            (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
        }
    };
    let own = UdpSocket::bind(SocketAddr::new(at.ip(), 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(elsewhere, at.port()))?;
        socket.local_addr()
    });
    let own = own.ok().map(|own| own.ip()).filter(|own| !own.is_unspecified());
    SocketAddr::new(own.or_else(|| of_interface(at)).unwrap_or(loopback), at.port())
}

/// Returns the first address of another interface than loopback, of the same family, for a process that may not use UDP.
fn of_interface(at: SocketAddr) -> Option<IpAddr> {
    let all = if_addrs::get_if_addrs().ok()?.into_iter();
    all.filter(|found| !found.is_loopback()).map(|found| found.ip()).find(|ip| ip.is_ipv4() == at.is_ipv4())
}

async fn greet(
    mut stream: TcpStream,
    from: SocketAddr,
    tls: Tls,
    nodes: Option<Nodes>,
) -> io::Result<Option<Transport>> {
    prepare(&stream)?;
    let greeting = async {
        if let Some(nodes) = nodes
            && let Some(life) = handover::asked(&mut stream).await?
        {
            // Whoever asks for an unknown node learns nothing: the connection ends.
            let node = nodes(life).ok_or(io::ErrorKind::NotFound)?;
            return handover::hand(stream.into_std()?, &node).await.map(|()| None);
        }
        tls.accept(Socket::Tcp(stream), Place::Port(from)).await.map(Some)
    };
    timeout(HANDSHAKE, greeting).await.unwrap_or_else(|_| Err(late(Place::Port(from))))
}

/// Runs the server's side of the handshake on a connection that gpmd has handed to this node.
///
/// # Errors
/// Those of the handshake; `TimedOut`.
pub(super) async fn handed(stream: Socket, from: Place, tls: &Tls) -> io::Result<Transport> {
    if let Socket::Tcp(stream) = &stream {
        prepare(stream)?;
    }
    timeout(HANDSHAKE, tls.accept(stream, from)).await.unwrap_or_else(|_| Err(late(from)))
}
