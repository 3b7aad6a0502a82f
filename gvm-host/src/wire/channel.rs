//! A channel: a connection that carries only calls and their outcomes.
//!
//! In: calls or outcomes, and the bytes of the other side. Out: the bytes to send; calls or outcomes, each as soon as it
//! is complete. Must not know: sessions, who waits for an outcome. Everything here is `Send`.
//!
//! The dialling side sends `MAGIC` and a ticket, receives one byte, and then sends frames. A frame is 24 bytes, a message
//! of `schema/node.capnp`, and its parts: lists and texts of a large value as they lie in memory, in the order of
//! [`Large::blobs`], then the bytes of a module; each is padded to 8 bytes. The 24 bytes are the id of the call, the
//! length of the message in words, the kind, and the length of all parts in bytes (little-endian). An id is chosen by
//! the caller, and belongs to one call at a time.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use capnp::message::{Builder, ReaderOptions, ScratchSpaceHeapAllocator};
use capnp::serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use super::bulk::Ticket;
use super::call::{self, Apart};
use super::large::{self, Blob, Content, Large};
use super::rpc::MessageLimits;
use super::schema::node_capnp;
use super::transport::Transport;
use crate::base::error::{Code, Error, Result};
use crate::base::value::List;
use crate::call::{Call, Chunk, Outcome};

/// The first bytes of a channel. No Cap'n Proto message begins so: it would have about 540 million segments.
pub(super) const MAGIC: [u8; 8] = *b"GVM call";

/// The answer to a valid ticket.
const READY: u8 = 1;

/// How long the other side may take for one step of the handshake.
const STEP: Duration = Duration::from_secs(5);

const WORD: usize = size_of::<u64>();

/// Bytes in front of each message.
const HEAD: usize = 3 * WORD;

/// The longest message in bytes: as on the connection of the session.
const MESSAGE: usize = MessageLimits::SESSION.bytes();

/// Bytes of the buffer for frames that arrive: some tens of small calls. It grows while more arrive at once.
const FIRST_ROOM: usize = 8 << 10;

/// The buffer is made smaller again when it is empty and larger than this.
const USUAL_ROOM: usize = 64 << 10;

/// Words in which a message is built: more than a call with small arguments takes.
const SCRATCH: usize = 256;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Call,
    Outcome,
    /// The caller no longer waits for the outcome. There is no message.
    Cancel,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Kind::Call => 1,
            Kind::Outcome => 2,
            Kind::Cancel => 3,
        }
    }

    fn read(number: u32) -> io::Result<Kind> {
        match number {
            1 => Ok(Kind::Call),
            2 => Ok(Kind::Outcome),
            3 => Ok(Kind::Cancel),
            _ => Err(invalid("a frame has a kind that this version does not know")),
        }
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn padding(bytes: usize) -> usize {
    bytes.next_multiple_of(WORD) - bytes
}

/// Returns the length of these parts as they cross; `None` if no message can have so many bytes.
pub fn padded(blobs: &[Blob]) -> Option<u64> {
    let length = |blob: &Blob| blob.bytes.checked_next_multiple_of(WORD as u64);
    blobs.iter().try_fold(0, |sum: u64, blob| sum.checked_add(length(blob)?))
}

/// Opens a channel over a connection that was just dialled.
///
/// # Errors
/// Errors of the connection; `UnexpectedEof` if the ticket is invalid or has expired.
pub async fn open(transport: &mut Transport, ticket: Ticket) -> io::Result<()> {
    timeout(STEP, async {
        let mut greeting = [0; 24];
        greeting[..8].copy_from_slice(&MAGIC);
        greeting[8..].copy_from_slice(&ticket);
        transport.write_all(&greeting).await?;
        transport.flush().await?;
        match transport.read_u8().await? {
            READY => Ok(()),
            _ => Err(invalid("the answer to a ticket is not the expected byte")),
        }
    })
    .await?
}

/// Accepts a channel whose ticket is valid.
///
/// # Errors
/// Errors of the connection.
pub async fn accept(transport: &mut Transport) -> io::Result<()> {
    timeout(STEP, async {
        transport.write_u8(READY).await?;
        transport.flush().await
    })
    .await?
}

/// The large parts of a value that cross after its message.
pub type Parts = Vec<Content>;

/// Frames that wait to be sent.
#[derive(Default)]
pub struct Outgoing {
    /// What was added before `last`, oldest first.
    pieces: VecDeque<Piece>,
    /// The frames since the last part. Its memory is used again.
    last: Vec<u8>,
    /// How much of the first piece, or of `last` if there is none, has been sent.
    first_sent: usize,
    waiting: usize,
}

enum Piece {
    Bytes(Vec<u8>),
    Part(Content),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Bytes(bytes) => bytes,
            Piece::Part(content) => content.bytes(),
        }
    }
}

impl Outgoing {
    /// Adds a call. `apart` describes the parts.
    pub fn call(&mut self, id: u64, call: &Call, apart: &Apart, has_input: bool, parts: Parts) {
        self.message(id, Kind::Call, parts, |message| {
            call::write(call, apart, has_input, message.init_root::<node_capnp::call::Builder<'_>>());
        });
    }

    /// Adds an outcome, with the output that was not sent before it. `large` replaces a result whose parts follow.
    pub fn outcome(
        &mut self,
        id: u64,
        outcome: &Outcome,
        large: Option<&Large>,
        output: &[Chunk],
        parts: Parts,
    ) {
        self.message(id, Kind::Outcome, parts, |message| {
            let to = message.init_root::<node_capnp::outcome::Builder<'_>>();
            call::write_outcome(outcome, large, output, to);
        });
    }

    /// Adds the cancellation of a call.
    pub fn cancel(&mut self, id: u64) {
        self.head(id, 0, Kind::Cancel, 0);
    }

    fn message(
        &mut self,
        id: u64,
        kind: Kind,
        parts: Parts,
        write: impl FnOnce(&mut Builder<ScratchSpaceHeapAllocator<'_>>),
    ) {
        let mut scratch = [0_u64; SCRATCH];
        let mut message =
            Builder::new(ScratchSpaceHeapAllocator::new(bytemuck::cast_slice_mut(&mut scratch)));
        write(&mut message);
        let bytes = parts.iter().map(|part| part.bytes().len().next_multiple_of(WORD)).sum::<usize>();
        self.head(id, serialize::compute_serialized_size_in_words(&message), kind, bytes);
        let before = self.last.len();
        // A vector takes everything.
        let _ = serialize::write_message(&mut self.last, &message);
        self.waiting += self.last.len() - before;
        for part in parts {
            let padding = padding(part.bytes().len());
            self.waiting += part.bytes().len();
            self.pieces.push_back(Piece::Bytes(std::mem::take(&mut self.last)));
            self.pieces.push_back(Piece::Part(part));
            self.bytes(&[0; WORD][..padding]);
        }
    }

    fn head(&mut self, id: u64, words: usize, kind: Kind, parts: usize) {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&id.to_le_bytes());
        head[8..12].copy_from_slice(&(words as u32).to_le_bytes());
        head[12..16].copy_from_slice(&kind.number().to_le_bytes());
        head[16..].copy_from_slice(&(parts as u64).to_le_bytes());
        self.bytes(&head);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.last.extend_from_slice(bytes);
        self.waiting += bytes.len();
    }

    /// Returns how many bytes wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Sends everything that waits. Parts that have been sent are given to `free`, because to free much memory takes long.
    ///
    /// # Errors
    /// Errors of the connection.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Transport,
        mut free: impl FnMut(Content),
    ) -> Poll<io::Result<()>> {
        let sent = &mut self.first_sent;
        while let Some(first) = self.pieces.front() {
            ready!(send(cx, stream, first.bytes(), sent, &mut self.waiting))?;
            *sent = 0;
            if let Some(Piece::Part(content)) = self.pieces.pop_front() {
                free(content);
            }
        }
        ready!(send(cx, stream, &self.last, sent, &mut self.waiting))?;
        *sent = 0;
        self.last.clear();
        self.last.shrink_to(USUAL_ROOM);
        Pin::new(stream).poll_flush(cx)
    }
}

/// Sends what is left of these bytes after the first `sent`.
fn send(
    cx: &mut Context<'_>,
    stream: &mut Transport,
    bytes: &[u8],
    sent: &mut usize,
    waiting: &mut usize,
) -> Poll<io::Result<()>> {
    while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
        match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            more => {
                *sent += more;
                *waiting -= more;
            }
        }
    }
    Poll::Ready(Ok(()))
}

/// A frame that has arrived; its parts follow.
#[derive(Debug)]
pub struct Frame<'a> {
    pub id: u64,
    pub kind: Kind,
    message: &'a [u8],
    /// The length of all parts with their padding.
    pub parts: u64,
}

fn options() -> ReaderOptions {
    MessageLimits::SESSION.options()
}

fn unreadable(error: capnp::Error) -> Error {
    Error::new(Code::BadArguments, format!("cannot read a message from the other side: {error}"))
}

impl Frame<'_> {
    /// Reads a call, the description of its parts, and whether its caller has standard input for it.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS`, `SYNTAX`, `VERSION_MISMATCH`.
    pub fn call(&self) -> Result<(Call, Apart, bool)> {
        let message = serialize::read_message_from_flat_slice(&mut &*self.message, options());
        let message = message.map_err(unreadable)?;
        call::read(message.get_root().map_err(unreadable)?)
    }

    /// Reads an outcome, the description of its parts, and the output that came with it.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS`, `VERSION_MISMATCH`.
    pub fn outcome(&self) -> Result<(Outcome, Option<Large>, Vec<Chunk>)> {
        let message = serialize::read_message_from_flat_slice(&mut &*self.message, options());
        let message = message.map_err(unreadable)?;
        call::read_outcome(message.get_root().map_err(unreadable)?)
    }
}

/// Frames as they arrive.
#[derive(Default)]
pub struct Incoming {
    buffer: Vec<u64>,
    /// Where the bytes that have arrived and were not taken begin and end.
    from: usize,
    to: usize,
    parts: Rest,
}

/// What follows the frame that was taken last.
#[derive(Default)]
enum Rest {
    #[default]
    Nothing,
    /// Parts that nobody needs.
    Skip(u64),
    Parts(Receiving),
}

struct Receiving {
    rooms: Vec<List>,
    /// The part that arrives, and how many of its bytes have arrived.
    part: usize,
    arrived: usize,
}

impl Incoming {
    /// Reads more bytes. Returns false at the end of the connection.
    ///
    /// # Errors
    /// Errors of the connection.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, stream: &mut Transport) -> Poll<io::Result<bool>> {
        self.make_room();
        let room = &mut bytemuck::cast_slice_mut(&mut self.buffer)[self.to..];
        let mut room = ReadBuf::new(room);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        self.to += read;
        Poll::Ready(Ok(read > 0))
    }

    fn make_room(&mut self) {
        let size = self.buffer.len() * WORD;
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
            if size > USUAL_ROOM || size == 0 {
                self.buffer = vec![0; FIRST_ROOM / WORD];
            }
            return;
        }
        if self.to == size {
            self.move_to_front();
            // A frame that says that it is long gets memory only while it arrives.
            if self.to > size / 2 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
    }

    fn move_to_front(&mut self) {
        bytemuck::cast_slice_mut::<u64, u8>(&mut self.buffer).copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.buffer)[self.from..self.to]
    }

    /// Takes the next frame if it is complete. The parts that follow it must be taken with [`Incoming::expect`] or left
    /// out with [`Incoming::skip`] before the next one.
    ///
    /// # Errors
    /// `InvalidData` if it is not a frame, or too long.
    pub fn frame(&mut self) -> io::Result<Option<Frame<'_>>> {
        if !self.skipped() {
            return Ok(None);
        }
        // A message must begin at a word. Padding that arrived alone ends between two.
        if !self.from.is_multiple_of(WORD) {
            self.move_to_front();
        }
        let bytes = self.bytes();
        let Some(head) = bytes.get(..HEAD) else { return Ok(None) };
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
        let (id, middle, parts) = (number(0), number(8), number(16));
        let (length, kind) = (middle as u32 as usize * WORD, Kind::read((middle >> 32) as u32)?);
        if length > MESSAGE {
            return Err(invalid("a message is too long"));
        }
        if bytes.len() < HEAD + length {
            return Ok(None);
        }
        let from = self.from + HEAD;
        self.from = from + length;
        let message = &bytemuck::cast_slice(&self.buffer)[from..self.from];
        Ok(Some(Frame { id, kind, message, parts }))
    }

    /// Drops the parts of the frame that was just taken.
    pub fn skip(&mut self, parts: u64) {
        if parts > 0 {
            self.parts = Rest::Skip(parts);
        }
    }

    /// Drops what has arrived of the parts that nobody needs; returns whether this is all.
    fn skipped(&mut self) -> bool {
        let Rest::Skip(left) = &mut self.parts else { return true };
        let arrived = usize::try_from(*left).unwrap_or(usize::MAX).min(self.to - self.from);
        *left -= arrived as u64;
        self.from += arrived;
        let all = *left == 0;
        if all {
            self.parts = Rest::Nothing;
        }
        all
    }

    /// Takes the parts of the frame that was just taken into these lists.
    pub fn expect(&mut self, rooms: Vec<List>) {
        self.parts = Rest::Parts(Receiving { rooms, part: 0, arrived: 0 });
    }

    /// Waits for the parts.
    ///
    /// # Errors
    /// Errors of the connection; `UnexpectedEof`.
    pub fn poll_parts(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Transport,
    ) -> Poll<io::Result<Vec<List>>> {
        loop {
            let Rest::Parts(receiving) = &mut self.parts else {
                return Poll::Ready(Err(invalid("no parts are expected")));
            };
            let Some(room) = receiving.rooms.get_mut(receiving.part) else {
                let rooms = std::mem::take(&mut receiving.rooms);
                self.parts = Rest::Nothing;
                return Poll::Ready(Ok(rooms));
            };
            let room = large::bytes_of(room);
            let length = room.len() + padding(room.len());
            let missing = room.get_mut(receiving.arrived..).unwrap_or_default();
            let have = &bytemuck::cast_slice::<u64, u8>(&self.buffer)[self.from..self.to];
            if receiving.arrived == length {
                receiving.part += 1;
                receiving.arrived = 0;
            } else if !have.is_empty() {
                let taken = have.len().min(length - receiving.arrived);
                let kept = taken.min(missing.len());
                missing[..kept].copy_from_slice(&have[..kept]);
                receiving.arrived += taken;
                self.from += taken;
            } else if missing.is_empty() {
                // Only padding is missing.
                if !ready!(self.poll_fill(cx, stream))? {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            } else {
                let mut into = ReadBuf::new(missing);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut into))?;
                match into.filled().len() {
                    0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    read => receiving.arrived += read,
                }
            }
        }
    }

    /// Whether parts are being received.
    pub fn receives_parts(&self) -> bool {
        matches!(self.parts, Rest::Parts(_))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::base::value::Value;
    use crate::call::{Args, ModuleRef, Target};

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    fn call(args: Vec<Value>) -> Call {
        Call::new(Target::function(ModuleRef::stored("m".parse().unwrap()), "f"), Args::Values(args))
    }

    fn bytes(length: usize) -> Value {
        Value::List(List::U8((0..length).map(|index| (index % 251) as u8).collect()))
    }

    async fn send(mut outgoing: Outgoing, mut stream: Transport) -> usize {
        let mut freed = 0;
        poll_fn(|cx| outgoing.poll_send(cx, &mut stream, |_| freed += 1)).await.unwrap();
        assert_eq!(outgoing.waiting(), 0);
        freed
    }

    /// Receives this many calls with their arguments.
    async fn receive(mut stream: Transport, count: usize) -> Vec<(u64, Args)> {
        let mut incoming = Incoming::default();
        let mut calls = Vec::new();
        while calls.len() < count {
            let frame = incoming.frame().unwrap().map(|frame| (frame.id, frame.parts, frame.call().unwrap()));
            let Some((id, parts, (call, apart, has_input))) = frame else {
                assert!(poll_fn(|cx| incoming.poll_fill(cx, &mut stream)).await.unwrap());
                continue;
            };
            assert!(has_input);
            let Some(large) = apart.args else {
                calls.push((id, call.args));
                continue;
            };
            let blobs = large.blobs();
            assert_eq!(padded(&blobs), Some(parts));
            let room = |blob: &Blob| large::room(blob.element, blob.bytes as usize).unwrap();
            incoming.expect(blobs.iter().map(room).collect());
            let parts = poll_fn(|cx| incoming.poll_parts(cx, &mut stream)).await.unwrap();
            calls.push((id, large.arrived(parts).unwrap()));
        }
        calls
    }

    #[test]
    fn calls_arrive_with_their_parts() {
        run(async {
            for capacity in [1 << 7, 1 << 16] {
                let sizes = [5, 70_001, 300_000, 64, 3_000_003, 65_536];
                let (near, far) = Transport::pair(capacity);
                let mut outgoing = Outgoing::default();
                for (id, size) in sizes.into_iter().enumerate() {
                    let args = vec![bytes(size), Value::U8(1), bytes(size / 2)];
                    let mut call = call(args);
                    let (mut apart, mut parts) = (Apart::default(), Vec::new());
                    if size > 64 << 10 {
                        let Args::Values(values) =
                            std::mem::replace(&mut call.args, Args::Text(String::new()))
                        else {
                            panic!("values")
                        };
                        let (large, follow) = large::checked("arguments", values).unwrap().to_follow();
                        (apart.args, parts) = (Some(large), follow);
                    }
                    outgoing.call(id as u64, &call, &apart, true, parts);
                }
                let (freed, calls) = tokio::join!(send(outgoing, near), receive(far, sizes.len()));
                assert_eq!(freed, 5);
                for (id, size) in sizes.into_iter().enumerate() {
                    let expected = Args::Values(vec![bytes(size), Value::U8(1), bytes(size / 2)]);
                    assert!(calls[id] == (id as u64, expected), "{id}");
                }
            }
        });
    }

    #[test]
    fn what_is_not_a_frame_is_refused() {
        run(async {
            for bad in [
                [0xff; HEAD],
                [0; HEAD],
                [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ] {
                let (mut near, mut far) = Transport::pair(100);
                near.write_all(&bad).await.unwrap();
                let mut incoming = Incoming::default();
                assert!(poll_fn(|cx| incoming.poll_fill(cx, &mut far)).await.unwrap());
                assert_eq!(incoming.frame().unwrap_err().kind(), io::ErrorKind::InvalidData);
            }
        });
    }
}
