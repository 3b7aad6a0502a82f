//! A channel: a connection that carries only calls and their outcomes.
//!
//! In: calls or outcomes, and the bytes of the other side. Out: the bytes to send; calls or outcomes, each as soon as it
//! is complete. Must not know: sessions, who waits for an outcome. Everything here is `Send`.
//!
//! The dialling side sends `MAGIC` and a ticket, receives one byte, and then both sides send frames. A frame has a head of
//! 24 bytes: the id of the call, a length, the kind, and the length of the parts that belong to it (little-endian). An id
//! is chosen by the caller, and belongs to one call at a time. After the head of a call or an outcome comes a message of
//! `schema/node.capnp`; its length is in words. The parts are lists and texts of a large value as they lie in memory, in
//! the order of [`Large::blobs`], then the bytes of a module; each is padded to 8 bytes. They follow in frames of their
//! own, at most 256 KiB each, and other frames may come between them, so a large value does not delay small calls.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
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

/// How often one connection reads or writes before others of its thread get a turn: some hundred microseconds for large
/// values.
pub const TURN: u32 = 4;

/// The buffer is made smaller again when it is empty and larger than this.
const USUAL_ROOM: usize = 64 << 10;

/// Words in which a message is built: more than a call with small arguments takes.
const SCRATCH: usize = 256;

/// Bytes of parts in one frame. A small frame waits for one of them at most: about 0.1 ms.
const CHUNK: usize = 256 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Call,
    Outcome,
    /// The caller no longer waits for the outcome. There is no message, and no more parts follow.
    Cancel,
    /// Bytes of the parts of a call or an outcome.
    Part,
}

impl Kind {
    fn number(self) -> u32 {
        match self {
            Kind::Call => 1,
            Kind::Outcome => 2,
            Kind::Cancel => 3,
            Kind::Part => 4,
        }
    }

    fn read(number: u32) -> io::Result<Kind> {
        match number {
            1 => Ok(Kind::Call),
            2 => Ok(Kind::Outcome),
            3 => Ok(Kind::Cancel),
            4 => Ok(Kind::Part),
            _ => Err(invalid("a frame has a kind that this version does not know")),
        }
    }
}

/// Returns the error of a side that breaks the protocol.
pub fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
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
    /// Frames without parts, and how many of their bytes have been sent. The memory is used again.
    frames: Vec<u8>,
    frames_sent: usize,
    /// The parts that wait. They take turns.
    bodies: VecDeque<Body>,
    /// The frame of the first body that is being sent.
    chunk: Option<Chunked>,
    waiting: usize,
}

/// The parts of one call or outcome.
struct Body {
    id: u64,
    parts: VecDeque<Content>,
    /// Bytes of the first part, with its padding, that have been sent.
    sent: usize,
    /// Bytes of all parts that have not been sent.
    left: usize,
}

impl Body {
    /// Returns the next bytes, at most this many.
    fn next(&self, most: usize) -> &[u8] {
        let Some(part) = self.parts.front() else { return &[] };
        let bytes = part.bytes();
        let rest = match bytes.get(self.sent..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &[0; WORD][..(bytes.len().next_multiple_of(WORD) - self.sent).min(WORD)],
        };
        &rest[..rest.len().min(most)]
    }

    /// Notes that bytes were sent; returns the first part if it is complete.
    fn advance(&mut self, sent: usize) -> Option<Content> {
        self.sent += sent;
        self.left -= sent;
        let length = self.parts.front()?.bytes().len().next_multiple_of(WORD);
        if self.sent < length {
            return None;
        }
        self.sent = 0;
        self.parts.pop_front()
    }
}

/// A frame with parts.
struct Chunked {
    head: [u8; HEAD],
    head_sent: usize,
    left: usize,
}

fn head(id: u64, length: usize, kind: Kind, parts: usize) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&id.to_le_bytes());
    head[8..12].copy_from_slice(&(length as u32).to_le_bytes());
    head[12..16].copy_from_slice(&kind.number().to_le_bytes());
    head[16..].copy_from_slice(&(parts as u64).to_le_bytes());
    head
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
        self.drop_parts(id);
        self.add(&head(id, 0, Kind::Cancel, 0));
    }

    /// Drops the parts that wait for this id, except the rest of a frame that has begun.
    pub fn drop_parts(&mut self, id: u64) {
        let begun = self.chunk.as_ref().map(|chunk| chunk.left);
        let mut first = true;
        let mut dropped = 0;
        self.bodies.retain_mut(|body| {
            let begun = begun.filter(|_| std::mem::take(&mut first));
            if body.id != id {
                return true;
            }
            dropped += body.left - begun.unwrap_or(0);
            body.left = begun.unwrap_or(0);
            body.left > 0
        });
        self.waiting -= dropped;
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
        let left = parts.iter().map(|part| part.bytes().len().next_multiple_of(WORD)).sum::<usize>();
        self.add(&head(id, serialize::compute_serialized_size_in_words(&message), kind, left));
        let before = self.frames.len();
        // A vector takes everything.
        let _ = serialize::write_message(&mut self.frames, &message);
        self.waiting += self.frames.len() - before + left;
        if left > 0 {
            self.bodies.push_back(Body { id, parts: parts.into(), sent: 0, left });
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.frames.extend_from_slice(bytes);
        self.waiting += bytes.len();
    }

    /// Whether parts of this call or outcome wait.
    pub fn has_parts(&self, id: u64) -> bool {
        self.bodies.iter().any(|body| body.id == id)
    }

    /// Returns how many bytes of frames without parts wait.
    pub fn waiting_frames(&self) -> usize {
        self.frames.len() - self.frames_sent
    }

    /// Returns how many bytes wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Sends everything that waits, with at most as many writes as `turns` has left. Parts that have been sent are given to
    /// `free`, because to free much memory takes long.
    ///
    /// # Errors
    /// Errors of the connection.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Transport,
        turns: &mut u32,
        mut free: impl FnMut(Content),
    ) -> Poll<io::Result<()>> {
        loop {
            if self.waiting > 0 {
                if *turns == 0 {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                *turns -= 1;
            }
            if let Some(chunk) = &mut self.chunk {
                let Some(body) = self.bodies.front_mut() else {
                    return Poll::Ready(Err(invalid("a frame has lost its parts")));
                };
                let slices =
                    [IoSlice::new(&chunk.head[chunk.head_sent..]), IoSlice::new(body.next(chunk.left))];
                let sent = sent(ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices)))?;
                let of_head = sent.min(HEAD - chunk.head_sent);
                chunk.head_sent += of_head;
                chunk.left -= sent - of_head;
                self.waiting -= sent - of_head;
                body.advance(sent - of_head).into_iter().for_each(&mut free);
                if chunk.left == 0 && chunk.head_sent == HEAD {
                    self.chunk = None;
                    let body = self.bodies.pop_front().filter(|body| body.left > 0);
                    self.bodies.extend(body);
                }
            } else if let Some(rest) = self.frames.get(self.frames_sent..).filter(|rest| !rest.is_empty()) {
                let sent = sent(ready!(Pin::new(&mut *stream).poll_write(cx, rest)))?;
                self.frames_sent += sent;
                self.waiting -= sent;
                if self.frames_sent == self.frames.len() {
                    self.frames_sent = 0;
                    self.frames.clear();
                    self.frames.shrink_to(USUAL_ROOM);
                }
            } else if let Some(body) = self.bodies.front() {
                let left = body.left.min(CHUNK);
                self.chunk = Some(Chunked { head: head(body.id, left, Kind::Part, 0), head_sent: 0, left });
            } else {
                return Pin::new(stream).poll_flush(cx);
            }
        }
    }
}

fn sent(written: io::Result<usize>) -> io::Result<usize> {
    match written? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        sent => Ok(sent),
    }
}

/// A call, an outcome or a cancellation that has arrived.
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

/// What has arrived.
#[derive(Debug)]
pub enum Arrived<'a> {
    Frame(Frame<'a>),
    /// All parts of a call or an outcome.
    Parts(u64, Vec<List>),
}

/// Frames as they arrive.
#[derive(Default)]
pub struct Incoming {
    buffer: Vec<u64>,
    /// Where the bytes that have arrived and were not taken begin and end.
    from: usize,
    to: usize,
    /// The parts that are expected.
    expected: HashMap<u64, Receiving>,
    /// The frame with parts that arrives: its id, and how many of its bytes are missing.
    chunk: Option<(u64, usize)>,
    /// A call or an outcome whose parts are complete.
    complete: Vec<(u64, Vec<List>)>,
}

struct Receiving {
    rooms: Vec<List>,
    /// The part that arrives, and how many of its bytes have arrived, with padding.
    part: usize,
    arrived: usize,
}

impl Receiving {
    /// Returns the memory for the next bytes, at most this many; none if only padding is missing.
    fn space(&mut self, most: usize) -> &mut [u8] {
        let room = self.rooms.get_mut(self.part).map(large::bytes_of).unwrap_or_default();
        let space = room.get_mut(self.arrived..).unwrap_or_default();
        let most = space.len().min(most);
        &mut space[..most]
    }

    /// Notes that bytes have arrived in [`Receiving::space`], or as padding.
    fn advance(&mut self, arrived: usize) {
        self.arrived += arrived;
        while let Some(room) = self.rooms.get_mut(self.part)
            && self.arrived >= large::bytes_of(room).len().next_multiple_of(WORD)
        {
            self.arrived = 0;
            self.part += 1;
        }
    }

    /// Takes bytes from the front of these; returns how many.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let space = self.space(bytes.len());
        let taken = match space.len() {
            // Padding.
            0 => match self.rooms.get_mut(self.part).map(|room| large::bytes_of(room).len()) {
                Some(length) => (length.next_multiple_of(WORD) - self.arrived).min(bytes.len()),
                // More than was announced.
                None => return bytes.len(),
            },
            length => {
                space.copy_from_slice(&bytes[..length]);
                length
            }
        };
        self.advance(taken);
        taken
    }

    fn is_complete(&self) -> bool {
        self.part == self.rooms.len()
    }
}

impl Incoming {
    /// Reads more bytes. Returns false at the end of the connection.
    ///
    /// # Errors
    /// Errors of the connection.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, stream: &mut Transport) -> Poll<io::Result<bool>> {
        if self.from == self.to
            && let Some((id, left)) = &mut self.chunk
            && let Some(receiving) = self.expected.get_mut(id)
        {
            let space = receiving.space(*left);
            if !space.is_empty() {
                let mut space = ReadBuf::new(space);
                ready!(Pin::new(stream).poll_read(cx, &mut space))?;
                let read = space.filled().len();
                receiving.advance(read);
                *left -= read;
                return Poll::Ready(Ok(read > 0));
            }
        }
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

    /// Takes the next frame, or all parts of an earlier one, if they are complete.
    ///
    /// # Errors
    /// `InvalidData` if it is not a frame, or too long.
    pub fn take(&mut self) -> io::Result<Option<Arrived<'_>>> {
        loop {
            if !self.take_chunk() {
                return Ok(None);
            }
            if let Some((id, rooms)) = self.complete.pop() {
                return Ok(Some(Arrived::Parts(id, rooms)));
            }
            // A message must begin at a word. Padding that arrived alone ends between two.
            if !self.from.is_multiple_of(WORD) {
                self.move_to_front();
            }
            let bytes = self.bytes();
            let Some(head) = bytes.get(..HEAD) else { return Ok(None) };
            let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap_or_default());
            let (id, middle, parts) = (number(0), number(8), number(16));
            let (length, kind) = (middle as u32 as usize, Kind::read((middle >> 32) as u32)?);
            if kind == Kind::Part {
                if length > CHUNK {
                    return Err(invalid("a frame with parts is too long"));
                }
                self.from += HEAD;
                self.chunk = Some((id, length));
                continue;
            }
            let length = length * WORD;
            if length > MESSAGE {
                return Err(invalid("a message is too long"));
            }
            if bytes.len() < HEAD + length {
                return Ok(None);
            }
            let from = self.from + HEAD;
            self.from = from + length;
            let message = &bytemuck::cast_slice(&self.buffer)[from..self.from];
            return Ok(Some(Arrived::Frame(Frame { id, kind, message, parts })));
        }
    }

    /// Takes what has arrived of the frame with parts; returns whether it is complete. Parts that are not expected are
    /// dropped.
    fn take_chunk(&mut self) -> bool {
        let Some((id, left)) = &mut self.chunk else { return true };
        let have = &bytemuck::cast_slice::<u64, u8>(&self.buffer)[self.from..self.to];
        let mut have = &have[..have.len().min(*left)];
        self.from += have.len();
        *left -= have.len();
        let receiving = self.expected.get_mut(id);
        if let Some(receiving) = receiving {
            while !have.is_empty() {
                have = &have[receiving.take(have)..];
            }
        }
        if *left > 0 {
            return false;
        }
        let id = *id;
        self.chunk = None;
        if self.expected.get(&id).is_some_and(Receiving::is_complete)
            && let Some(receiving) = self.expected.remove(&id)
        {
            self.complete.push((id, receiving.rooms));
        }
        true
    }

    /// Takes the parts of the frame with this id into these lists.
    pub fn expect(&mut self, id: u64, rooms: Vec<List>) {
        let mut receiving = Receiving { rooms, part: 0, arrived: 0 };
        receiving.advance(0);
        match receiving.is_complete() {
            true => self.complete.push((id, receiving.rooms)),
            false => drop(self.expected.insert(id, receiving)),
        }
    }

    /// Drops the parts of the frame with this id that have arrived, and those that still arrive.
    pub fn forget(&mut self, id: u64) {
        self.expected.remove(&id);
        self.complete.retain(|(complete, _)| *complete != id);
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
        poll_fn(|cx| outgoing.poll_send(cx, &mut stream, &mut { TURN }, |_| freed += 1)).await.unwrap();
        assert_eq!(outgoing.waiting(), 0);
        freed
    }

    /// Receives this many calls with their arguments.
    async fn receive(mut stream: Transport, count: usize) -> Vec<(u64, Args)> {
        let mut incoming = Incoming::default();
        let mut calls = Vec::new();
        let mut large = HashMap::new();
        while calls.len() < count {
            let (id, parts, (call, apart, has_input)) = match incoming.take().unwrap() {
                Some(Arrived::Frame(frame)) => (frame.id, frame.parts, frame.call().unwrap()),
                Some(Arrived::Parts(id, parts)) => {
                    let large: Large = large.remove(&id).unwrap();
                    calls.push((id, large.arrived(parts).unwrap()));
                    continue;
                }
                None => {
                    assert!(poll_fn(|cx| incoming.poll_fill(cx, &mut stream)).await.unwrap());
                    continue;
                }
            };
            assert!(has_input);
            let Some(args) = apart.args else {
                calls.push((id, call.args));
                continue;
            };
            let blobs = args.blobs();
            assert_eq!(padded(&blobs), Some(parts));
            let room = |blob: &Blob| large::room(blob.element, blob.bytes as usize).unwrap();
            incoming.expect(id, blobs.iter().map(room).collect());
            large.insert(id, args);
        }
        // Small calls do not wait for large ones that were sent before.
        assert_eq!([calls[0].0, calls[1].0], [0, 3]);
        calls.sort_by_key(|call| call.0);
        calls
    }

    #[test]
    fn calls_arrive_with_their_parts() {
        run(async {
            for capacity in [1 << 7, 1 << 16] {
                let sizes = [5, 70_001, 300_000, 64, 3_000_003, 165_537];
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
                assert_eq!(freed, 7);
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
                assert_eq!(incoming.take().unwrap_err().kind(), io::ErrorKind::InvalidData);
            }
        });
    }
}
