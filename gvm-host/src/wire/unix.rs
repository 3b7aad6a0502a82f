//! Unix sockets: files in folders of mode 0700; the kernel reports the user at the other end.
//!
//! In: the path of a socket file. Out: transports whose other end is a process of our own user. Must not
//! know: the messages that cross them.
//!
//! A socket name has about 100 bytes at most. On Linux we reach sockets through the open folder
//! (`/proc/self/fd/N/name`), so the path of a home may be longer.

use std::fs::{self, File};
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

use super::socket::{Socket, Stream};
use super::transport::{OtherEnd, Transport};
use crate::base::error::{Code, Error, Result};

/// How long a listener's queue in the kernel may stay full before dialling gives up. A healthy daemon accepts
/// connections within milliseconds.
const DIAL: Duration = Duration::from_secs(5);

/// How long to wait when no connection can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest socket name that the kernel accepts, on systems without `/proc/self/fd`.
#[cfg(not(target_os = "linux"))]
const MAX_SOCKET_NAME: usize = 100;

/// Converts a connected socket into a transport if the kernel reports our own user at the other end.
///
/// # Errors
/// `AUTH_FAILED` for any other user.
fn known(stream: UnixStream) -> Result<Transport> {
    let pid = check(&stream)?;
    Ok(Transport::new(Stream::Plain(Socket::Unix(stream)), OtherEnd::Local { pid }))
}

/// Checks that our own user is at the other end. Returns its process id if the kernel reports it.
fn check(stream: &UnixStream) -> Result<Option<i32>> {
    let peer = stream.peer_cred().map_err(|error| {
        Error::new(Code::AuthFailed, format!("cannot identify the other process: {error}"))
    })?;
    if peer.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::new(
            Code::AuthFailed,
            format!("the other process belongs to another user (uid {})", peer.uid()),
        ));
    }
    Ok(peer.pid())
}

/// Connects to a socket file.
///
/// # Errors
/// The operating system's; `PermissionDenied` with an `AUTH_FAILED` inside if the other end belongs to
/// another user.
pub(super) async fn dial(path: &Path) -> io::Result<Transport> {
    let deadline = Instant::now() + DIAL;
    loop {
        match connect(path).await {
            Ok(stream) => {
                return known(stream).map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error));
            }
            // The listener's queue is full: the listener exists and is busy.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= deadline {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // The listener has ended with this connection in its queue.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, error));
            }
            Err(error) => return Err(error),
        }
    }
}

pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (_folder, short) = short_name(path)?;
    UnixStream::connect(short).await
}

/// A listening socket file. Dropping it removes the file, unless another listener has replaced it.
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    inode: (u64, u64),
}

impl Listener {
    /// Listens on the socket file `path`, in a folder that only our user can enter. Replaces a file that a
    /// crashed process left behind. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// `PORT_IN_USE` if another process already listens there; `STORAGE_FULL`, `INTERNAL`.
    pub(super) fn bind(path: &Path) -> Result<Listener> {
        let fail = |error| Error::io(format_args!("cannot listen on {}", path.display()), error);
        let (_folder, short) = short_name(path).map_err(fail)?;
        // Two processes that both find a stale file must not remove each other's new file.
        let _locked = lock_folder(path).map_err(fail)?;
        let socket = match std::os::unix::net::UnixListener::bind(&short) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if answers(&short) {
                    return Err(Error::new(
                        Code::PortInUse,
                        format!("another process already listens on {}", path.display()),
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

    /// Waits for the next connection.
    ///
    /// # Errors
    /// `AUTH_FAILED` if it comes from another user; `OVERLOADED` if the process has no free descriptors. The
    /// listener keeps working after an error.
    pub(super) async fn accept(&self) -> Result<Transport> {
        self.accept_any().await.and_then(known)
    }

    /// Waits for the next connection, and returns its socket.
    ///
    /// # Errors
    /// Those of [`Listener::accept`].
    pub(super) async fn accept_stream(&self) -> Result<UnixStream> {
        let stream = self.accept_any().await?;
        check(&stream)?;
        Ok(stream)
    }

    /// Waits for the next connection of our own user, however long none can be accepted. `what` names it in the log.
    pub(super) async fn next_stream(&self, what: &str) -> UnixStream {
        loop {
            match self.accept_stream().await {
                Ok(stream) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept {what}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn accept_any(&self) -> Result<UnixStream> {
        match self.socket.accept().await {
            Ok((stream, _)) => Ok(stream),
            Err(error) => Err(Error::new(Code::Overloaded, format!("cannot accept a connection: {error}"))
                .with_source(error)),
        }
    }

    /// Returns where it can be dialled.
    pub(super) fn path(&self) -> &Path {
        &self.path
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

/// Removes a socket file that has no listener. Leaves any other file alone.
pub fn remove_stale(path: &Path) {
    let Ok((_folder, short)) = short_name(path) else { return };
    let locked = lock_folder(path);
    if locked.is_ok() && short.extension().is_some_and(|extension| extension == "sock") && !answers(&short) {
        let _ = fs::remove_file(&short);
    }
}

/// Locks the folder of a path until the result is dropped.
fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = File::open(split(path)?.0)?;
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(folder)
}

/// Whether a socket file has a listener.
fn answers(path: &Path) -> bool {
    // A full queue also means that there is a listener.
    !matches!(knock(path), Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT))
}

fn knock(path: &Path) -> rustix::io::Result<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Returns the id of the process that listens on a socket file, without sending anything to it; `None` if the
/// system does not report it.
///
/// # Errors
/// The operating system's: `NotFound` and `ConnectionRefused` if no process listens there, `WouldBlock` if
/// its queue is full.
pub fn listener(path: &Path) -> io::Result<Option<u32>> {
    let (_folder, short) = short_name(path)?;
    let socket = knock(&short)?;
    #[cfg(target_os = "linux")]
    if let Ok(credentials) = rustix::net::sockopt::socket_peercred(&socket) {
        return Ok(u32::try_from(credentials.pid.as_raw_nonzero().get()).ok());
    }
    drop(socket);
    Ok(None)
}

/// Returns the open folder of a path, and a short name for the path that is valid while the folder is open.
#[cfg(target_os = "linux")]
fn short_name(path: &Path) -> io::Result<(File, PathBuf)> {
    use std::os::unix::fs::OpenOptionsExt;
    let (folder, name) = split(path)?;
    // A confined process may not read the folder, but pass through it.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
    let folder = File::options().read(true).custom_flags(flags.bits() as i32).open(folder)?;
    let short = format!("/proc/self/fd/{}", folder.as_raw_fd());
    Ok((folder, Path::new(&short).join(name)))
}

#[cfg(not(target_os = "linux"))]
fn short_name(path: &Path) -> io::Result<(File, PathBuf)> {
    let (folder, _) = split(path)?;
    if path.as_os_str().len() > MAX_SOCKET_NAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path is too long for a socket on this system; choose a home with a shorter path",
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
            let (dialled, accepted) = tokio::join!(dial(&path), listener.accept());
            let own = OtherEnd::Local { pid: Some(std::process::id() as i32) };
            assert_eq!(dialled.unwrap().peer, own);
            assert_eq!(accepted.unwrap().peer, own);
            drop(listener);
            assert!(!path.exists());
        });
    }

    #[test]
    fn replaces_only_a_stale_file() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let path = deep(folder.path());
            let (_folder, short) = short_name(&path).unwrap();
            drop(std::os::unix::net::UnixListener::bind(short).unwrap());
            assert!(path.exists());
            let refused = dial(&path).await.err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let _listener = Listener::bind(&path).unwrap();
            assert_eq!(Listener::bind(&path).err().unwrap().code(), Code::PortInUse);
            dial(&path).await.unwrap();
        });
    }

    #[test]
    fn a_dropped_listener_leaves_its_successor_alone() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.sock");
            let first = Listener::bind(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let _second = Listener::bind(&path).unwrap();
            drop(first);
            dial(&path).await.unwrap();
        });
    }
}
