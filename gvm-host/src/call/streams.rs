//! The pipes of one call's standard streams, bounded in both directions.
//!
//! In: what a guest writes, what a source supplies. Out: chunks in the order in which they were written;
//! bytes when the guest asks for them. Must not know: wasm, terminals, sockets. Their owners read and feed
//! these pipes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::base::limits;
use crate::call::{Broken, Chunk, Stream};

/// The guest wrote more than it may. Rides inside the trap that stops it.
#[derive(Debug)]
pub struct OutputLimit(pub u64);

impl std::fmt::Display for OutputLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the call wrote more than {} bytes of output (--max-output)", self.0)
    }
}

impl std::error::Error for OutputLimit {}

/// Why a pipe takes no more.
#[derive(Debug)]
pub enum Closed {
    Limit(OutputLimit),
    /// Whoever took the output cannot, as [`Output::fail`] was told.
    Failed(Broken),
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Closed::Limit(limit) => limit.fmt(f),
            Closed::Failed(broken) => write!(f, "the output is lost: {}", io::Error::from(*broken)),
        }
    }
}

impl From<Closed> for io::Error {
    fn from(closed: Closed) -> io::Error {
        match closed {
            Closed::Limit(limit) => io::Error::other(limit),
            Closed::Failed(broken) => broken.into(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reading end of both output streams of one call. Cheap to clone; one reader at a time.
#[derive(Clone)]
pub struct Output(Arc<OutputPipe>);

struct OutputPipe {
    state: Mutex<OutputState>,
    limit: u64,
    written: Notify,
    taken: Notify,
}

#[derive(Default)]
struct OutputState {
    chunks: VecDeque<Chunk>,
    buffered: usize,
    total: u64,
    /// Why each stream takes no more; the other one goes on.
    failed: [Option<Broken>; 2],
    /// Of a preview 3 writer that waits for room.
    waker: Option<Waker>,
}

impl OutputState {
    fn room(&self, stream: Stream) -> Result<usize, Closed> {
        match self.failed[stream as usize] {
            Some(broken) => Err(Closed::Failed(broken)),
            None => Ok(limits::OUTPUT_IN_FLIGHT.saturating_sub(self.buffered)),
        }
    }
}

impl Output {
    /// A pipe that lets at most `limit` bytes through.
    pub fn new(limit: u64) -> Output {
        Output(Arc::new(OutputPipe {
            state: Mutex::default(),
            limit,
            written: Notify::new(),
            taken: Notify::new(),
        }))
    }

    /// What has been written and not yet taken, oldest first, without waiting.
    pub fn take(&self) -> Vec<Chunk> {
        let mut state = lock(&self.0.state);
        if state.chunks.is_empty() {
            return Vec::new();
        }
        state.buffered = 0;
        let chunks = std::mem::take(&mut state.chunks).into();
        let waker = state.waker.take();
        drop(state);
        self.0.taken.notify_waiters();
        waker.into_iter().for_each(Waker::wake);
        chunks
    }

    /// Waits until something has been written. Never ends by itself: race it with the call.
    pub async fn next(&self) -> Vec<Chunk> {
        loop {
            let written = self.0.written.notified();
            let chunks = self.take();
            if !chunks.is_empty() {
                return chunks;
            }
            written.await;
        }
    }

    /// Puts in what a guest elsewhere wrote, waiting for room.
    ///
    /// # Errors
    /// [`Closed`] where that is more than this pipe lets through, or nobody takes it any more.
    pub async fn push(&self, chunk: Chunk) -> Result<(), Closed> {
        self.wait_for_room(chunk.stream).await;
        self.put(chunk.stream, &chunk.data)
    }

    /// Says that what is written to this stream is lost: the guest's next writes to it fail so.
    pub fn fail(&self, stream: Stream, broken: Broken) {
        let mut state = lock(&self.0.state);
        state.failed[stream as usize].get_or_insert(broken);
        let waker = state.waker.take();
        drop(state);
        self.0.taken.notify_waiters();
        waker.into_iter().for_each(Waker::wake);
    }

    /// How many bytes may be written now.
    ///
    /// # Errors
    /// [`Closed`] where the stream takes no more.
    pub(crate) fn room(&self, stream: Stream) -> Result<usize, Closed> {
        lock(&self.0.state).room(stream)
    }

    /// Writes without waiting for room.
    ///
    /// # Errors
    /// [`Closed`] where that is more than this pipe lets through, or nobody takes it any more.
    pub(crate) fn put(&self, stream: Stream, bytes: &[u8]) -> Result<(), Closed> {
        let mut state = lock(&self.0.state);
        if let Some(broken) = state.failed[stream as usize] {
            return Err(Closed::Failed(broken));
        }
        let total = state.total.saturating_add(bytes.len() as u64);
        if total > self.0.limit {
            return Err(Closed::Limit(OutputLimit(self.0.limit)));
        }
        state.total = total;
        state.buffered += bytes.len();
        match state.chunks.back_mut() {
            Some(last) if last.stream == stream => last.data.extend_from_slice(bytes),
            _ => state.chunks.push_back(Chunk { stream, data: bytes.to_vec() }),
        }
        drop(state);
        self.0.written.notify_one();
        Ok(())
    }

    /// Waits until the stream has room, or takes no more.
    pub(crate) async fn wait_for_room(&self, stream: Stream) {
        loop {
            let taken = self.0.taken.notified();
            if !matches!(self.room(stream), Ok(0)) {
                return;
            }
            taken.await;
        }
    }

    /// Writes a part of the bytes, as many as there is room for; a writer without room is woken later.
    pub(crate) fn poll_put(
        &self,
        stream: Stream,
        bytes: &[u8],
        cx: &Context<'_>,
    ) -> Poll<Result<usize, Closed>> {
        let mut state = lock(&self.0.state);
        let room = state.room(stream)?;
        if room == 0 {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        let part = &bytes[..bytes.len().min(room)];
        Poll::Ready(self.put(stream, part).map(|()| part.len()))
    }
}

/// The source's end of a call's standard input. Cheap to clone; one source at a time.
#[derive(Clone, Default)]
pub struct Input(Arc<InputPipe>);

#[derive(Default)]
struct InputPipe {
    state: Mutex<InputState>,
    wanted: Notify,
    supplied: Notify,
}

#[derive(Default)]
struct InputState {
    bytes: VecDeque<u8>,
    ended: bool,
    /// Why there is no more, where that is not the end.
    failed: Option<Broken>,
    wanted: bool,
    /// Of a preview 3 reader that waits for bytes.
    waker: Option<Waker>,
}

impl Input {
    /// Waits until the guest asks for input that is not there. A source reads only then, so that
    /// what the guest leaves stays for the next reader.
    pub async fn wanted(&self) {
        loop {
            let wanted = self.0.wanted.notified();
            if std::mem::take(&mut lock(&self.0.state).wanted) {
                return;
            }
            wanted.await;
        }
    }

    /// Hands bytes to the guest; none mean the end.
    pub fn supply(&self, bytes: &[u8]) {
        let mut state = lock(&self.0.state);
        state.bytes.extend(bytes);
        state.ended |= bytes.is_empty();
        let waker = state.waker.take();
        drop(state);
        self.0.supplied.notify_waiters();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Says that no more can be read: once the guest has what was supplied, its reads fail so.
    pub fn fail(&self, broken: Broken) {
        lock(&self.0.state).failed = Some(broken);
        self.supply(&[]);
    }

    /// Takes bytes as a guest would, waiting for at least one; none mean the end.
    ///
    /// # Errors
    /// Why no more can be read.
    pub async fn pull(&self, most: usize) -> Result<Vec<u8>, Broken> {
        loop {
            match self.take(most)? {
                Some(bytes) if bytes.is_empty() => self.wait().await,
                Some(bytes) => return Ok(bytes),
                None => return Ok(Vec::new()),
            }
        }
    }

    /// Some bytes, or `None` at the end; empty where the guest has to wait.
    ///
    /// # Errors
    /// Why no more can be read.
    pub(crate) fn take(&self, most: usize) -> Result<Option<Vec<u8>>, Broken> {
        let mut state = lock(&self.0.state);
        if state.bytes.is_empty() {
            if state.ended {
                return state.failed.map_or(Ok(None), Err);
            }
            self.want(&mut state);
            return Ok(Some(Vec::new()));
        }
        let most = most.min(state.bytes.len());
        Ok(Some(state.bytes.drain(..most).collect()))
    }

    fn want(&self, state: &mut InputState) {
        if !state.wanted {
            state.wanted = true;
            self.0.wanted.notify_one();
        }
    }

    /// Waits until there are bytes, or the end.
    pub(crate) async fn wait(&self) {
        loop {
            let supplied = self.0.supplied.notified();
            {
                let mut state = lock(&self.0.state);
                if state.ended || !state.bytes.is_empty() {
                    return;
                }
                self.want(&mut state);
            }
            supplied.await;
        }
    }

    /// Some bytes, none at the end; a reader that has to wait is woken later.
    pub(crate) fn poll_take(&self, most: usize, cx: &Context<'_>) -> Poll<Result<Vec<u8>, Broken>> {
        let mut state = lock(&self.0.state);
        if state.bytes.is_empty() && !state.ended {
            self.want(&mut state);
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let (true, Some(broken)) = (state.bytes.is_empty(), state.failed) {
            return Poll::Ready(Err(broken));
        }
        let most = most.min(state.bytes.len());
        Poll::Ready(Ok(state.bytes.drain(..most).collect()))
    }
}
