//! Connections between processes: a reader, a writer and who is at the other end.
//!
//! In: an address, or a path in the home folder. Out: a [`Transport`] whose other end is known to
//! be ours. Must not know: what is said over it.
//!
//! Unix sockets live in folders of mode 0700, and the kernel vouches for the user at the other
//! end. A socket's name holds about 100 bytes; ours are reached through the open folder
//! (`/proc/self/fd/N/name`), so a home may lie as deep as it likes.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

use crate::error::{Code, Error, Result};

/// How long the kernel's queue of a listener may stay full before dialling gives up. A daemon that
/// lives takes connections within milliseconds.
const DIAL: Duration = Duration::from_secs(5);

/// The longest name the kernel takes for a socket, where there is no way around it.
#[cfg(not(target_os = "linux"))]
const MAX_SOCKET_NAME: usize = 100;

/// One connection. Belongs to the thread that serves it from then on.
pub struct Transport {
    pub reader: Box<dyn AsyncRead + Unpin>,
    pub writer: Box<dyn AsyncWrite + Unpin>,
    pub peer: Peer,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// A process of our own user on this device, as the kernel says; its id where it says that too.
    Local { pid: Option<i32> },
    /// This process itself.
    InMemory,
}

/// Where something can be dialled: `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address> {
        match text.strip_prefix("unix:").map(Path::new) {
            Some(path) if path.is_absolute() => Ok(Address::Unix(path.into())),
            _ => Err(Error::new(
                Code::Syntax,
                format!("{text:?} is no address that this version can dial: addresses look like unix:/PATH"),
            )),
        }
    }
}

impl Transport {
    /// Two ends in one process, with this many bytes in flight each way.
    pub fn pair(capacity: usize) -> (Transport, Transport) {
        let (left, right) = tokio::io::duplex(capacity);
        (Transport::in_memory(left), Transport::in_memory(right))
    }

    fn in_memory(stream: tokio::io::DuplexStream) -> Transport {
        let (reader, writer) = tokio::io::split(stream);
        Transport { reader: Box::new(reader), writer: Box::new(writer), peer: Peer::InMemory }
    }

    /// Takes a connected socket once the kernel has said that our own user is at its other end.
    ///
    /// # Errors
    /// `AUTH_FAILED` for anybody else.
    pub fn from_unix(stream: UnixStream) -> Result<Transport> {
        let peer = stream
            .peer_cred()
            .map_err(|error| Error::new(Code::AuthFailed, format!("the peer is not known: {error}")))?;
        if peer.uid() != rustix::process::geteuid().as_raw() {
            return Err(Error::new(
                Code::AuthFailed,
                format!("the process at the other end belongs to another user ({})", peer.uid()),
            ));
        }
        let pid = peer.pid();
        let (reader, writer) = stream.into_split();
        Ok(Transport { reader: Box::new(reader), writer: Box::new(writer), peer: Peer::Local { pid } })
    }
}

/// Connects to an address. To be called on a tokio runtime.
///
/// # Errors
/// The operating system's, with the caller's noun to be put to it: `NotFound` and
/// `ConnectionRefused` mean that nobody listens there, `TimedOut` that whoever does takes no one.
/// `PermissionDenied` where the other end is another user's.
pub async fn dial(address: &Address) -> io::Result<Transport> {
    let Address::Unix(path) = address;
    let deadline = Instant::now() + DIAL;
    loop {
        match connect(path).await {
            Ok(stream) => {
                return Transport::from_unix(stream)
                    .map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error));
            }
            // The listener's queue is full: it is alive and busy.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= deadline {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (_folder, short) = short_name(path)?;
    UnixStream::connect(short).await
}

/// A listening socket file. Dropping it removes the file, if it is still this one.
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl Listener {
    /// Listens at `path`, in a folder that belongs to us alone. A file that a crashed process left
    /// there is replaced. To be called on a tokio runtime.
    ///
    /// # Errors
    /// `PORT_IN_USE` where somebody listens there already; `STORAGE_FULL`, `INTERNAL`.
    pub fn bind(path: &Path) -> Result<Listener> {
        let fail = |error| Error::io(format_args!("cannot listen at {}", path.display()), error);
        let (folder, short) = short_name(path).map_err(fail)?;
        // Two processes that both find a stale file must not remove each other's new one.
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| fail(error.into()))?;
        let socket = match std::os::unix::net::UnixListener::bind(&short) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if answers(&short) {
                    return Err(Error::new(
                        Code::PortInUse,
                        format!("another process listens at {}", path.display()),
                    ));
                }
                fs::remove_file(&short).map_err(fail)?;
                std::os::unix::net::UnixListener::bind(&short)
            }
            other => other,
        }
        .map_err(fail)?;
        fs::set_permissions(&short, fs::Permissions::from_mode(0o600)).map_err(fail)?;
        let meta = fs::symlink_metadata(&short).map_err(fail)?;
        socket.set_nonblocking(true).map_err(fail)?;
        Ok(Listener {
            socket: UnixListener::from_std(socket).map_err(fail)?,
            path: path.into(),
            inode: (meta.dev(), meta.ino()),
        })
    }

    /// Waits for the next connection. Whoever is not of our user is turned away here, with
    /// `AUTH_FAILED`; the listener goes on.
    ///
    /// # Errors
    /// `AUTH_FAILED`; `OVERLOADED` where the process has no more descriptors; `INTERNAL`.
    pub async fn accept(&self) -> Result<Transport> {
        match self.socket.accept().await {
            Ok((stream, _)) => Transport::from_unix(stream),
            Err(error) => {
                Err(Error::new(Code::Overloaded, format!("cannot take a connection: {error}"))
                    .with_source(error))
            }
        }
    }

    /// Where it can be dialled.
    pub fn address(&self) -> Address {
        Address::Unix(self.path.clone())
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket file at which nobody listens; anything else is left alone.
pub fn remove_stale(path: &Path) {
    let Ok((folder, short)) = short_name(path) else { return };
    if rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).is_ok()
        && short.extension().is_some_and(|extension| extension == "sock")
        && !answers(&short)
    {
        let _ = fs::remove_file(&short);
    }
}

/// Whether somebody listens at a socket file that exists.
fn answers(path: &Path) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let tried = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None)
        .and_then(|socket| connect(&socket, &SocketAddrUnix::new(path)?));
    // A full queue is a listener too, if a busy one.
    !matches!(tried, Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT))
}

/// The open folder of a path, and a short name of the path that holds while the folder is open.
#[cfg(target_os = "linux")]
fn short_name(path: &Path) -> io::Result<(File, PathBuf)> {
    let (folder, name) = split(path)?;
    let folder = File::open(folder)?;
    let short = format!("/proc/self/fd/{}", folder.as_raw_fd());
    Ok((folder, Path::new(&short).join(name)))
}

#[cfg(not(target_os = "linux"))]
fn short_name(path: &Path) -> io::Result<(File, PathBuf)> {
    let (folder, _) = split(path)?;
    if path.as_os_str().len() > MAX_SOCKET_NAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path is too long for a socket on this system: choose a shorter home",
        ));
    }
    Ok((File::open(folder)?, path.into()))
}

fn split(path: &Path) -> io::Result<(&Path, &std::ffi::OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => Ok((folder, name)),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn deep(folder: &Path) -> PathBuf {
        let deep = folder.join("a".repeat(120)).join("b".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        deep.join("x.sock")
    }

    #[test]
    fn works_at_any_depth_and_knows_its_peer() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let path = deep(folder.path());
            let listener = Listener::bind(&path).unwrap();
            let address = listener.address();
            let (dialled, accepted) = tokio::join!(dial(&address), listener.accept());
            let own = Peer::Local { pid: Some(std::process::id() as i32) };
            assert_eq!(dialled.unwrap().peer, own);
            assert_eq!(accepted.unwrap().peer, own);
            drop(listener);
            assert!(!path.exists());
        });
    }

    #[test]
    fn replaces_a_stale_file_and_no_live_one() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let path = deep(folder.path());
            let (_folder, short) = short_name(&path).unwrap();
            drop(std::os::unix::net::UnixListener::bind(short).unwrap());
            assert!(path.exists());
            let refused = dial(&Address::Unix(path.clone())).await.err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let listener = Listener::bind(&path).unwrap();
            assert_eq!(Listener::bind(&path).err().unwrap().code(), Code::PortInUse);
            dial(&listener.address()).await.unwrap();
        });
    }

    #[test]
    fn a_dropped_listener_leaves_its_successor_alone() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.sock");
            let first = Listener::bind(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let second = Listener::bind(&path).unwrap();
            drop(first);
            dial(&second.address()).await.unwrap();
        });
    }

    #[test]
    fn addresses_read_what_they_write() {
        let address = Address::Unix("/home/me/x.sock".into());
        assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        for bad in ["unix:x.sock", "tcp:127.0.0.1:5989", "", "unix:"] {
            assert_eq!(bad.parse::<Address>().unwrap_err().code(), Code::Syntax, "{bad}");
        }
    }
}
