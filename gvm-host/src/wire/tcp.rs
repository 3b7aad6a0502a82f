//! TCP: listens on a port and dials another.
//!
//! In: a socket address and the home's key. Out: transports whose other end has proved that it holds the same
//! key. Must not know: the messages that cross them.
//!
//! Anyone may dial. Until the handshake is complete, a connection costs one socket and some kilobytes, for a
//! bounded time, and does not delay other connections.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::tls::Tls;
use super::transport::Transport;
use crate::base::error::{Code, Error, Result};

/// How long dialling may take, handshake included: a few round trips across the world.
const DIAL: Duration = Duration::from_secs(5);

/// How long an accepted connection may take for its side of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The most handshakes at once on one port. One takes a millisecond, so only an attacker causes so many.
const HANDSHAKES: usize = 64;

/// The most connections that the kernel queues until we accept them, for busy moments and floods.
const WAITING: u32 = 1024;

/// The time between two keepalive probes of the kernel to a silent host; after three the connection is
/// closed.
#[cfg(target_os = "linux")]
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The time between two log lines about refused connections.
const QUIET: Duration = Duration::from_secs(10);

/// Connects to a port of this home.
///
/// # Errors
/// `PermissionDenied` with an `AUTH_FAILED` inside if the listener does not hold this home's key; `TimedOut`;
/// errors of the socket.
pub(super) async fn dial(at: SocketAddr, tls: &Tls) -> io::Result<Transport> {
    let connecting = async {
        let stream = TcpStream::connect(at).await?;
        // The kernel may connect a free local port to itself.
        if stream.local_addr()? == at {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        prepare(&stream)?;
        tls.connect(stream, at).await
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

type Arrival = Pin<Box<dyn Future<Output = io::Result<Transport>>>>;

/// A listening port. Belongs to one thread; dropping it closes the port and the unfinished handshakes.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Tls,
    /// Unfinished handshakes, oldest first.
    arriving: RefCell<Vec<Arrival>>,
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
        Ok(Listener { socket, address, tls, arriving: RefCell::default(), warned: Cell::new(None) })
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
                // Close the oldest: a regular handshake is complete long before it is the oldest of so many.
                if arriving.len() >= HANDSHAKES {
                    drop(arriving.remove(0));
                    self.log_refusal("too many unfinished handshakes; this one is the oldest");
                }
                arriving.push(Box::pin(greet(stream, from, self.tls.clone())));
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
        let mut next = 0;
        while let Some(arrival) = arriving.get_mut(next) {
            match arrival.as_mut().poll(cx) {
                Poll::Pending => next += 1,
                Poll::Ready(done) => {
                    drop(arriving.remove(next));
                    match done {
                        Ok(transport) => return Poll::Ready(Ok(transport)),
                        Err(error) => self.log_refusal(&error.to_string()),
                    }
                }
            }
        }
        Poll::Pending
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
    SocketAddr::new(own.unwrap_or(loopback), at.port())
}

async fn greet(stream: TcpStream, from: SocketAddr, tls: Tls) -> io::Result<Transport> {
    prepare(&stream)?;
    let greeted = timeout(HANDSHAKE, tls.accept(stream, from)).await;
    greeted.unwrap_or_else(|_| {
        let why = format!("{from} did not complete the handshake in time");
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    })
}
