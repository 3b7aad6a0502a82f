//! TCP connections that gpmd makes for nodes of its device which may not connect themselves.
//!
//! In: on the node's side, an address that the system refuses to let it connect to; in gpmd, the requests. Out: on the node's side, the
//! connection, as if the node had made it. Must not know: which addresses are allowed (gpmd's business), what the connection
//! is for; TLS begins after it.
//!
//! A confined node (`node/confine.rs`) may connect to no port. It asks on a socket in the home, and gets the descriptor of the
//! connection (`SCM_RIGHTS`, unix(7)), so gpmd is not a part of the connection afterwards.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::socket::Socket;
use super::{handover, unix};
use crate::base::error::Result;
use crate::base::inert;

/// The first bytes of a request.
const ASKS: [u8; 8] = *b"GVM dial";

/// The first bytes of an answer without a connection. The reason follows.
const REFUSES: [u8; 8] = *b"GVM none";

/// The longest address in a request: IPv6 with a scope and a port.
const ADDRESS: usize = 80;

/// The longest reason.
const REASON: u64 = 1000;

/// How long a request may take to arrive.
const ASK: Duration = Duration::from_secs(5);

/// The socket of the gpmd that connects for this process. Confinement holds for a whole process, and so does this.
static ASKED: OnceLock<PathBuf> = OnceLock::new();

/// From now on, asks the gpmd with this socket to connect where the system does not let this process.
pub fn ask_at(socket: PathBuf) {
    let _ = ASKED.set(socket);
}

/// Connects to an address; if the system refuses that, by gpmd.
pub(super) async fn connect(at: SocketAddr) -> io::Result<TcpStream> {
    match (TcpStream::connect(at).await, ASKED.get()) {
        (Err(error), Some(socket)) if error.kind() == io::ErrorKind::PermissionDenied => {
            ask(socket, at).await
        }
        (connected, _) => connected,
    }
}

async fn ask(socket: &Path, at: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = unix::connect(socket).await?;
    let address = at.to_string();
    stream.write_all(&ASKS).await?;
    stream.write_all(&[address.len() as u8]).await?;
    stream.write_all(address.as_bytes()).await?;
    let mut first = [0; 8];
    match (handover::first_bytes(&stream, &mut first).await?, first) {
        (Some(descriptor), handover::HANDS) => match handover::taken(descriptor)? {
            (Socket::Tcp(stream), _) => Ok(stream),
            _ => Err(io::ErrorKind::InvalidData.into()),
        },
        (_, REFUSES) => {
            let mut reason = Vec::new();
            stream.take(REASON).read_to_end(&mut reason).await?;
            let reason = inert::line(&String::from_utf8_lossy(&reason)).into_owned();
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, reason))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// gpmd's socket for these requests. Dropping it removes the socket file.
pub struct Door(unix::Listener);

impl Door {
    /// Listens on the socket file `path`. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// `PORT_IN_USE` if another process already listens there; `STORAGE_FULL`, `INTERNAL`.
    pub fn bind(path: &Path) -> Result<Door> {
        unix::Listener::bind(path).map(Door)
    }

    /// Waits for the next process of our own user. May be dropped and called again.
    pub async fn accept(&self) -> Asked {
        Asked(self.0.next_stream("a request to connect").await)
    }
}

/// A process that wants a connection and has not said where to.
pub struct Asked(UnixStream);

impl Asked {
    /// Reads where the process wants to connect, and answers with what `connect` returns.
    ///
    /// # Errors
    /// `InvalidData` if it is not a request; `TimedOut`; errors of the socket.
    pub async fn answer(
        mut self,
        connect: impl AsyncFnOnce(SocketAddr) -> io::Result<TcpStream>,
    ) -> io::Result<()> {
        let at = timeout(ASK, self.read()).await??;
        match connect(at).await {
            Ok(stream) => handover::send(stream, &self.0).await,
            Err(error) => {
                self.0.write_all(&REFUSES).await?;
                self.0.write_all(error.to_string().as_bytes()).await
            }
        }
    }

    async fn read(&mut self) -> io::Result<SocketAddr> {
        let mut first = [0; 9];
        self.0.read_exact(&mut first).await?;
        let length = usize::from(first[8]);
        if first[..8] != ASKS || length > ADDRESS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut address = vec![0; length];
        self.0.read_exact(&mut address).await?;
        let address = std::str::from_utf8(&address).ok().and_then(|address| address.parse().ok());
        address.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_handed_over_or_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("dial.sock");
            let door = Door::bind(&socket).unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let serving = async {
                let known = async |wanted| match wanted == at {
                    true => TcpStream::connect(wanted).await,
                    false => Err(io::Error::other("no device has it")),
                };
                door.accept().await.answer(known).await.unwrap();
                door.accept().await.answer(known).await.unwrap();
                let strange = door.accept().await.answer(known).await.unwrap_err();
                assert_eq!(strange.kind(), io::ErrorKind::InvalidData);
            };
            let asking = async {
                let mut stream = ask(&socket, at).await.unwrap();
                stream.write_all(b"ghost").await.unwrap();
                let refused = ask(&socket, "127.0.0.1:1".parse().unwrap()).await.unwrap_err();
                assert_eq!(refused.to_string(), "no device has it");
                unix::connect(&socket).await.unwrap().write_all(b"GVM dial\x04oops").await.unwrap();
            };
            tokio::join!(serving, asking);
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut said = [0; 5];
            stream.read_exact(&mut said).await.unwrap();
            assert_eq!(&said, b"ghost");
        });
    }
}
