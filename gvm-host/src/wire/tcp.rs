//! TCP ports: listening on one, dialling another.
//!
//! In: a socket address and the home's key. Out: transports whose other end has proved that it holds
//! the same key. Must not know: what is said over them.
//!
//! Whoever dials may be anybody: until the handshake is done it costs a socket and some kilobytes, for
//! a bounded time, and holds up nobody else.

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

/// How long dialling may take, its handshake included: a few round trips across the world.
const DIAL: Duration = Duration::from_secs(5);

/// How long one who dialled us may take for its side of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Handshakes under way on one port. One takes a millisecond: it takes malice to have so many.
const HANDSHAKES: usize = 64;

/// Connections that the kernel keeps until we take them: a busy moment, or a flood.
const WAITING: u32 = 1024;

/// Between two questions of the kernel to a host that says nothing; after three it is gone.
#[cfg(target_os = "linux")]
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Between two log lines about strangers.
const QUIET: Duration = Duration::from_secs(10);

/// Connects to a port of this home.
///
/// # Errors
/// `PermissionDenied`, holding an `AUTH_FAILED`, where somebody else listens there; `TimedOut`; the
/// socket's.
pub(super) async fn dial(at: SocketAddr, tls: &Tls) -> io::Result<Transport> {
    let connecting = async {
        let stream = TcpStream::connect(at).await?;
        // The kernel may connect a free local port with itself.
        if stream.local_addr()? == at {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        prepare(&stream)?;
        tls.connect(stream, at).await
    };
    timeout(DIAL, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Small messages go at once; a host that went away without a word is noticed even where nobody asks.
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

/// A listening port. Belongs to one thread; dropping it closes the port and what has not proved itself.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Tls,
    /// Handshakes under way, the oldest first.
    arriving: RefCell<Vec<Arrival>>,
    said: Cell<Option<Instant>>,
}

impl Listener {
    /// Listens at `at`; port 0 takes a free one. To be called on a tokio runtime.
    ///
    /// # Errors
    /// `PORT_IN_USE`; `SYNTAX` where the device has no such address; `INTERNAL`.
    pub(super) fn bind(at: SocketAddr, tls: Tls) -> Result<Listener> {
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => Error::new(
                Code::PortInUse,
                format!("port {} of {} is taken by another process", at.port(), at.ip()),
            ),
            io::ErrorKind::AddrNotAvailable => {
                Error::new(Code::Syntax, format!("this device has no address {}", at.ip()))
            }
            _ => Error::io(format_args!("cannot listen at tcp:{at}"), error),
        };
        let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(fail)?;
        // The port of a process that ended a moment ago is free.
        socket.set_reuseaddr(true).map_err(fail)?;
        socket.bind(at).map_err(fail)?;
        let socket = socket.listen(WAITING).map_err(fail)?;
        let address = reachable(socket.local_addr().map_err(fail)?);
        Ok(Listener { socket, address, tls, arriving: RefCell::default(), said: Cell::new(None) })
    }

    /// Where it can be dialled; of one that listens at every address, by the one that others see.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next one who has proved that it is of this home. Whoever does not is cut off here,
    /// and the waiting goes on. May be dropped and called again: no handshake is lost.
    ///
    /// # Errors
    /// `OVERLOADED` where the process has no more descriptors.
    pub(super) async fn accept(&self) -> Result<Transport> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Transport>> {
        let mut arriving = self.arriving.borrow_mut();
        match self.socket.poll_accept(cx) {
            Poll::Ready(Ok((stream, from))) => {
                // The oldest gives way: an honest one is done long before it is the oldest of so many.
                if arriving.len() >= HANDSHAKES {
                    drop(arriving.remove(0));
                    self.say("too many connections that have not proved themselves: the oldest is cut off");
                }
                arriving.push(Box::pin(greet(stream, from, self.tls.clone())));
                cx.waker().wake_by_ref();
            }
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Err(Error::new(
                    Code::Overloaded,
                    format!("cannot take a connection: {error}"),
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
                        Err(error) => self.say(&error.to_string()),
                    }
                }
            }
        }
        Poll::Pending
    }

    /// Logs about strangers, who must not be able to fill the log.
    fn say(&self, what: &str) {
        if self.said.get().is_some_and(|last| last.elapsed() < QUIET) {
            tracing::debug!(port = self.address.port(), "turned away: {what}");
        } else {
            self.said.set(Some(Instant::now()));
            tracing::warn!(port = self.address.port(), "turned away: {what}");
        }
    }
}

/// An address that can be dialled. One that stands for all of this device's becomes the one from which this
/// device would speak to others, or the loopback where it speaks to nobody.
fn reachable(at: SocketAddr) -> SocketAddr {
    if !at.ip().is_unspecified() {
        return at;
    }
    // Addresses set aside for documentation: nothing is sent, the system only chooses its own side.
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
    greeted
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("{from} said too little"))))
}
