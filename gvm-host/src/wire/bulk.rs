//! The bulk connection: a separate connection for bytes that would delay the calls.
//!
//! In: ids of contents that the other side holds; on the serving side, the contents. Out: their bytes, in the
//! order of the requests. Must not know: the calls and sessions that the bytes belong to.
//!
//! The dialling side sends `MAGIC` and a ticket, receives one byte, and then requests ids (8 bytes,
//! little-endian, like all numbers here). Each answer is a length and that many bytes, or `GONE`. Each end of
//! a session requests over a bulk connection of its own. Everything here is `Send` and belongs on the bulk
//! thread.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::channel;
use super::large::{self, Blob, Content};
use super::socket::Socket;
use super::transport::{Place, Transport};
use crate::base::value::List;

/// The first bytes of a bulk connection. No Cap'n Proto message begins so: it would have about 540 million
/// segments.
const MAGIC: [u8; 8] = *b"GVM bulk";

/// The answer to a valid ticket.
const READY: u8 = 1;

/// The length that answers a request for content that is no longer held.
const GONE: u64 = u64::MAX;

/// How long the other side may take for one step of the handshake.
const STEP: Duration = Duration::from_secs(5);

/// How long a transfer may make no progress.
const STALLED: Duration = Duration::from_secs(20);

/// The most requests without an answer.
const WAITING: usize = 64;

/// Opens one bulk connection, once.
pub type Ticket = [u8; 16];

/// The purpose of an accepted connection.
pub enum Purpose {
    /// It speaks Cap'n Proto.
    Calls(Transport),
    /// It fetches what the ticket's session holds.
    Bulk(Ticket, Transport),
    /// It carries calls of the ticket's session.
    Channel(Ticket, Transport),
    /// gpmd has accepted it for this node. Its handshake is still to come.
    Handed(Socket, Place),
}

/// Determines the purpose of a connection that was just accepted from its first bytes.
///
/// # Errors
/// Errors of the connection.
pub async fn purpose(mut transport: Transport) -> io::Result<Purpose> {
    let mut first = MAGIC;
    if let Some((stream, from)) = transport.first_bytes(&mut first).await? {
        return Ok(Purpose::Handed(stream, from));
    }
    if ![MAGIC, channel::MAGIC].contains(&first) {
        return Ok(Purpose::Calls(transport.reads_again(first)));
    }
    let mut ticket = Ticket::default();
    transport.read_exact(&mut ticket).await?;
    match first {
        MAGIC => Ok(Purpose::Bulk(ticket, transport)),
        _ => Ok(Purpose::Channel(ticket, transport)),
    }
}

/// The contents that one side of a session holds for the other.
pub trait Holder: Send + Sync {
    /// Returns the content with this id.
    fn get(&self, id: u64) -> Option<Content>;
    /// Called when the content has been sent completely.
    fn sent(&self, id: u64);
}

/// Sends requested contents until the other side disconnects, which it may do at any time.
///
/// # Errors
/// Errors of the connection; `TimedOut` if the other side stops reading.
pub async fn serve(transport: Transport, held: &impl Holder) -> io::Result<()> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match serve_all(transport, held).await {
        // The other side closes the connection with or without a last word, perhaps before it has read all.
        Err(error) if matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe) => Ok(()),
        ended => ended,
    }
}

async fn serve_all(transport: Transport, held: &impl Holder) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(transport);
    writer.write_u8(READY).await?;
    writer.flush().await?;
    loop {
        let id = reader.read_u64_le().await?;
        let Some(content) = held.get(id) else {
            writer.write_u64_le(GONE).await?;
            writer.flush().await?;
            continue;
        };
        let mut rest = content.bytes();
        writer.write_u64_le(rest.len() as u64).await?;
        while !rest.is_empty() {
            let taken = timeout(STALLED, writer.write(rest)).await??;
            rest = rest.get(taken..).filter(|_| taken > 0).ok_or(io::ErrorKind::WriteZero)?;
        }
        timeout(STALLED, writer.flush()).await??;
        drop(content);
        held.sent(id);
    }
}

struct Wanted {
    blob: Blob,
    room: List,
    done: oneshot::Sender<List>,
}

/// The requesting side. Cheap to clone, `Send`; the connection ends with the last clone.
#[derive(Clone)]
pub struct Fetcher(mpsc::Sender<Wanted>);

impl Fetcher {
    /// Opens a bulk connection over a connection that was just dialled. Must be called on the runtime of the
    /// bulk thread.
    ///
    /// # Errors
    /// Errors of the connection; `UnexpectedEof` if the ticket is invalid or has expired.
    pub async fn open(mut transport: Transport, ticket: Ticket) -> io::Result<Fetcher> {
        timeout(STEP, async {
            transport.write_all(&MAGIC).await?;
            transport.write_all(&ticket).await?;
            transport.flush().await?;
            match transport.read_u8().await? {
                READY => Ok::<_, io::Error>(()),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        })
        .await??;
        let (ask, wanted) = mpsc::channel(WAITING);
        // Ends with the last clone of the sender, or with the connection.
        tokio::spawn(async move {
            if let Err(error) = fetch_all(transport, wanted).await {
                tracing::debug!("a bulk connection ended: {error}");
            }
        });
        Ok(Fetcher(ask))
    }

    /// Whether the connection is still open.
    pub fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Fetches one blob into the list allocated for it. Returns `None` if the other side no longer holds it
    /// or the connection is lost. The future may be dropped: the bytes are then read and discarded.
    pub async fn fetch(&self, blob: Blob, room: List) -> Option<List> {
        let (done, arrived) = oneshot::channel();
        self.0.send(Wanted { blob, room, done }).await.ok()?;
        arrived.await.ok()
    }
}

async fn fetch_all(transport: Transport, mut wanted: mpsc::Receiver<Wanted>) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(transport);
    let (asked, mut asked_for) = mpsc::channel::<Wanted>(WAITING);
    let asking = async move {
        while let Some(wanted) = wanted.recv().await {
            if wanted.done.is_closed() {
                continue;
            }
            writer.write_u64_le(wanted.blob.id).await?;
            writer.flush().await?;
            if asked.send(wanted).await.is_err() {
                break;
            }
        }
        Ok::<_, io::Error>(())
    };
    let taking = async move {
        while let Some(Wanted { blob, mut room, done }) = asked_for.recv().await {
            match timeout(STALLED, reader.read_u64_le()).await?? {
                GONE => {}
                bytes if bytes == blob.bytes => {
                    read_all(&mut reader, large::bytes_of(&mut room)).await?;
                    let _ = done.send(room);
                }
                _ => {
                    let why = "the length differs from the announced length";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
        }
        Ok(())
    };
    futures::future::try_join(asking, taking).await.map(|_| ())
}

async fn read_all(reader: &mut (impl AsyncRead + Unpin), mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match timeout(STALLED, reader.read(into)).await?? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => into = into.get_mut(read..).unwrap_or_default(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use super::super::schema::value_capnp::Number;
    use super::*;

    struct Held {
        contents: HashMap<u64, Content>,
        sent: Mutex<Vec<u64>>,
    }

    impl Holder for Held {
        fn get(&self, id: u64) -> Option<Content> {
            self.contents.get(&id).cloned()
        }

        fn sent(&self, id: u64) {
            self.sent.lock().unwrap().push(id);
        }
    }

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    async fn open() -> (Fetcher, Arc<Held>) {
        let bytes = |length: usize| Content::Bytes((0..length).map(|index| index as u8).collect());
        let contents = HashMap::from([(1, bytes(3_000_000)), (2, bytes(0)), (3, bytes(8))]);
        let held = Arc::new(Held { contents, sent: Mutex::default() });
        let (near, far) = Transport::pair(1 << 16);
        let serving = held.clone();
        tokio::spawn(async move {
            let Purpose::Bulk(ticket, transport) = purpose(far).await.unwrap() else { panic!("bulk") };
            assert_eq!(ticket, [7; 16]);
            serve(transport, &*serving).await.unwrap();
        });
        (Fetcher::open(near, [7; 16]).await.unwrap(), held)
    }

    async fn fetch(fetcher: &Fetcher, id: u64, bytes: u64) -> Option<List> {
        let room = large::room(Number::U8, bytes as usize).unwrap();
        fetcher.fetch(Blob { id, bytes, element: Number::U8 }, room).await
    }

    #[test]
    fn held_contents_arrive() {
        run(async {
            let (fetcher, held) = open().await;
            let (large, empty, gone, small) = tokio::join!(
                fetch(&fetcher, 1, 3_000_000),
                fetch(&fetcher, 2, 0),
                fetch(&fetcher, 9, 5),
                fetch(&fetcher, 3, 8),
            );
            let expected: Vec<u8> = (0..3_000_000).map(|index| index as u8).collect();
            assert!(large == Some(List::U8(expected.into())));
            assert_eq!(empty, Some(List::U8(Vec::new().into())));
            assert_eq!(gone, None);
            assert_eq!(small, Some(List::U8((0..8).collect())));
            assert_eq!(*held.sent.lock().unwrap(), [1, 2, 3]);
        });
    }

    #[test]
    fn a_wrong_length_ends_the_connection() {
        run(async {
            let (fetcher, _) = open().await;
            assert_eq!(fetch(&fetcher, 3, 9).await, None);
            assert_eq!(fetch(&fetcher, 3, 8).await, None);
            assert!(!fetcher.is_open());
        });
    }

    #[test]
    fn a_dropped_request_does_not_affect_others() {
        run(async {
            let (fetcher, _) = open().await;
            let given_up = timeout(Duration::ZERO, fetch(&fetcher, 1, 3_000_000)).await;
            assert!(given_up.is_err());
            assert_eq!(fetch(&fetcher, 3, 8).await, Some(List::U8((0..8).collect())));
        });
    }

    #[test]
    fn other_connections_lose_no_bytes() {
        run(async {
            let (mut near, far) = Transport::pair(1 << 10);
            near.write_all(b"\0\0\0\0\x01\0\0\0rest").await.unwrap();
            let Purpose::Calls(mut far) = purpose(far).await.unwrap() else { panic!("calls") };
            let mut read = [0; 12];
            far.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"\0\0\0\0\x01\0\0\0rest");
        });
    }
}
