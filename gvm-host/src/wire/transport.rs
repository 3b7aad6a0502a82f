//! Connections between processes: a reader, a writer and who is at the other end.
//!
//! In: an address. Out: a [`Transport`] whose other end is known to be ours. Must not know: what is
//! said over it; how the other end was recognised (`unix`, `tcp`, `tls`).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};

use super::tls::Tls;
use super::{tcp, unix};
use crate::base::error::{Code, Error, Result};

/// One connection. May be handed to the thread that serves it from then on.
pub struct Transport {
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    pub peer: OtherEnd,
}

/// Who is at the other end, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtherEnd {
    /// A process of our own user on this device, as the kernel says; its id where it says that too.
    Local { pid: Option<i32> },
    /// A process that holds this home's device key, as TLS proved; where it is.
    Home { at: SocketAddr },
    /// This process itself.
    InMemory,
}

/// Where something can be dialled: `unix:PATH`, or `tcp:HOST:PORT` with a numeric host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(at) => write!(f, "tcp:{at}"),
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
            Some(("tcp", at)) => at.parse().ok().filter(|at: &SocketAddr| at.port() != 0).map(Address::Tcp),
            _ => None,
        };
        address.ok_or_else(|| {
            Error::new(
                Code::Syntax,
                format!(
                    "{text:?} is no address that this version can dial: addresses look like unix:/PATH or \
                     tcp:127.0.0.1:5989"
                ),
            )
        })
    }
}

impl Address {
    /// What a person types for a place to dial: an address, or `HOST[:PORT]`, where a name is looked up
    /// once. Blocks as long as the system's resolver does.
    ///
    /// # Errors
    /// `SYNTAX` where it is none of these, or the name is not known.
    pub fn typed(text: &str, port: u16) -> Result<Address> {
        match text.split_once(':') {
            Some(("unix", _)) => text.parse(),
            Some(("tcp", at)) => host_and_port(at, port).map(Address::Tcp),
            _ => host_and_port(text, port).map(Address::Tcp),
        }
    }
}

/// `ADDR[:PORT]`, with the port that is meant where none is said. Blocks as long as the system's
/// resolver does where ADDR is a name.
///
/// # Errors
/// `SYNTAX` where it is neither an address nor a name that is known.
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
        Error::new(Code::Syntax, format!("{text:?} is no address ({why}): expected ADDR or ADDR:PORT"))
    };
    let mut found = found.map_err(|error| unknown(error.to_string()))?;
    found.next().ok_or_else(|| unknown("the name has none".into()))
}

impl Transport {
    /// Two ends in one process, with this many bytes in flight each way.
    pub fn pair(capacity: usize) -> (Transport, Transport) {
        let (left, right) = tokio::io::duplex(capacity);
        (Transport::in_memory(left), Transport::in_memory(right))
    }

    fn in_memory(stream: tokio::io::DuplexStream) -> Transport {
        let (reader, writer) = tokio::io::split(stream);
        Transport { reader: Box::new(reader), writer: Box::new(writer), peer: OtherEnd::InMemory }
    }
}

/// Connects to an address, within some seconds. To be called on a tokio runtime.
///
/// # Errors
/// The operating system's, with the caller's noun to be put to it: `NotFound` and
/// `ConnectionRefused` mean that nobody listens there, `TimedOut` that whoever does takes no one.
/// `PermissionDenied`, holding an `AUTH_FAILED`, where the other end is not of this home, or we have no
/// key (`tls`) to show at a TCP address.
pub async fn dial(address: &Address, tls: Option<&Tls>) -> io::Result<Transport> {
    match (address, tls) {
        (Address::Unix(path), _) => unix::dial(path).await,
        (Address::Tcp(at), Some(tls)) => tcp::dial(*at, tls).await,
        (Address::Tcp(at), None) => {
            let error =
                Error::new(Code::AuthFailed, format!("tcp:{at} cannot be dialled without the home's key"));
            Err(io::Error::new(io::ErrorKind::PermissionDenied, error))
        }
    }
}

/// What an error of [`dial`] says, without the code of a coded one.
pub fn dial_words(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}

/// Something that listens, a socket file or a port. Belongs to one thread; dropping it ends it.
#[non_exhaustive]
pub enum Listener {
    Unix(unix::Listener),
    Tcp(tcp::Listener),
}

impl Listener {
    /// Listens at `path`, in a folder that belongs to us alone. A file that a crashed process left
    /// there is replaced. To be called on a tokio runtime.
    ///
    /// # Errors
    /// `PORT_IN_USE` where somebody listens there already; `STORAGE_FULL`, `INTERNAL`.
    pub fn bind(path: &Path) -> Result<Listener> {
        unix::Listener::bind(path).map(Listener::Unix)
    }

    /// Listens on a TCP port, for holders of the same key alone; port 0 takes a free one. To be called
    /// on a tokio runtime.
    ///
    /// # Errors
    /// `PORT_IN_USE`; `SYNTAX` where the device has no such address; `INTERNAL`.
    pub fn bind_tcp(at: SocketAddr, tls: Tls) -> Result<Listener> {
        tcp::Listener::bind(at, tls).map(Listener::Tcp)
    }

    /// Waits for the next connection whose other end is known to be ours. May be dropped and called
    /// again: nobody is lost.
    ///
    /// # Errors
    /// `AUTH_FAILED` where another user reached a socket file; `OVERLOADED` where the process has no
    /// more descriptors. The listener goes on.
    pub async fn accept(&self) -> Result<Transport> {
        match self {
            Listener::Unix(listener) => listener.accept().await,
            Listener::Tcp(listener) => listener.accept().await,
        }
    }

    /// Where it can be dialled.
    pub fn address(&self) -> Address {
        match self {
            Listener::Unix(listener) => Address::Unix(listener.path().into()),
            Listener::Tcp(listener) => Address::Tcp(listener.address()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_what_they_write() {
        for text in ["unix:/home/me/x.sock", "tcp:127.0.0.1:5989", "tcp:[::1]:1111"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for bad in
            ["unix:x.sock", "tcp:x", "tcp:1.2.3.4", "tcp:1.2.3.4:0", "tcp:::1:5", "", "unix:", "quic:/x"]
        {
            assert_eq!(bad.parse::<Address>().unwrap_err().code(), Code::Syntax, "{bad}");
        }
    }

    #[test]
    fn what_a_person_types() {
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
