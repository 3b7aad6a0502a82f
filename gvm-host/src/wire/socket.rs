//! One connected socket, plain or under TLS, that can move to another runtime.
//!
//! In: a connection of the operating system. Out: reads and writes. A socket wakes the runtime on which it was made; a
//! thread that serves it moves it to its own runtime first, so that no other thread wakes for it. Must not know: the
//! bytes that cross it, how the other end is authenticated.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use crate::base::error::{Error, Result};

/// A socket of the operating system.
pub enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// It could not move to another runtime, and is closed.
    Lost,
}

impl Socket {
    /// Moves the socket to the current runtime.
    fn move_here(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Socket::Lost) {
            Socket::Unix(stream) => Socket::Unix(UnixStream::from_std(stream.into_std()?)?),
            Socket::Tcp(stream) => Socket::Tcp(TcpStream::from_std(stream.into_std()?)?),
            Socket::Lost => Socket::Lost,
        };
        Ok(())
    }
}

/// Both directions of one connection. `Send`.
pub enum Stream {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
    Memory(DuplexStream),
}

impl Stream {
    /// Moves the connection to the current runtime. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// The operating system's; the connection is then closed.
    pub fn move_here(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.move_here(),
            Stream::Tls(stream) => stream.get_mut().0.move_here(),
            Stream::Memory(_) => Ok(()),
        }
    }
}

impl Stream {
    /// Returns the certificate, in DER, of the other end of a TLS connection.
    pub(super) fn certificate(&self) -> Option<&[u8]> {
        let certificates = match self {
            Stream::Plain(_) | Stream::Memory(_) => None,
            Stream::Tls(stream) => match &**stream {
                TlsStream::Client(stream) => stream.get_ref().1.peer_certificates(),
                TlsStream::Server(stream) => stream.get_ref().1.peer_certificates(),
            },
        };
        certificates?.first().map(|certificate| certificate.as_ref())
    }

    /// Returns 32 bytes that only the two ends of a TLS connection know; none if the connection has no TLS.
    pub(super) fn exported(&self, label: &[u8]) -> Result<Vec<u8>> {
        let exported = match self {
            Stream::Plain(_) | Stream::Memory(_) => return Ok(Vec::new()),
            Stream::Tls(stream) => match &**stream {
                TlsStream::Client(stream) => {
                    stream.get_ref().1.export_keying_material(vec![0; 32], label, None)
                }
                TlsStream::Server(stream) => {
                    stream.get_ref().1.export_keying_material(vec![0; 32], label, None)
                }
            },
        };
        exported.map_err(|error| Error::internal(format!("TLS has no secret for the greeting: {error}")))
    }
}

fn lost<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

/// Implements the two traits of a stream by those of the stream that is inside; a variant with none always fails.
macro_rules! stream {
    ($kind:ident { $($variant:ident),* } $(or $none:ident)?) => {
        impl AsyncRead for $kind {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($kind::$variant(stream) => Pin::new(stream).poll_read(cx, into),)*
                    $($kind::$none => lost(),)?
                }
            }
        }

        impl AsyncWrite for $kind {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $($kind::$variant(stream) => Pin::new(stream).poll_write(cx, bytes),)*
                    $($kind::$none => lost(),)?
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $($kind::$variant(stream) => Pin::new(stream).poll_write_vectored(cx, slices),)*
                    $($kind::$none => lost(),)?
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $($kind::$variant(stream) => stream.is_write_vectored(),)*
                    $($kind::$none => false,)?
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($kind::$variant(stream) => Pin::new(stream).poll_flush(cx),)*
                    $($kind::$none => lost(),)?
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($kind::$variant(stream) => Pin::new(stream).poll_shutdown(cx),)*
                    $($kind::$none => lost(),)?
                }
            }
        }
    };
}

stream!(Socket { Unix, Tcp } or Lost);
stream!(Stream { Plain, Tls, Memory });

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_moved_socket_needs_only_its_new_runtime() {
        let old = runtime();
        let (mut near, far) = old.block_on(async {
            let (near, far) = UnixStream::pair().unwrap();
            (near, Stream::Plain(Socket::Unix(far)))
        });
        let serving = thread::spawn(move || {
            runtime().block_on(async {
                let mut far = far;
                far.move_here().unwrap();
                let byte = far.read_u8().await.unwrap();
                far.write_u8(byte + 1).await.unwrap();
            });
        });
        old.block_on(async {
            near.write_u8(1).await.unwrap();
            assert_eq!(near.read_u8().await.unwrap(), 2);
        });
        serving.join().unwrap();
    }
}
