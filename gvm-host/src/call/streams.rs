//! The pipes of the standard streams of one call, bounded in both directions.
//!
//! In: the output of a guest, the input from a source. Out: chunks in the order in which they were written;
//! bytes when the guest asks for them. Must not know: wasm, terminals, sockets. Their owners read and write
//! these pipes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::base::limits;
use crate::base::shared::Shared;
use crate::call::{Broken, Chunk, Stream};

/// The guest wrote more than its limit. The trap that stops the guest contains this error.
#[derive(Debug)]
pub struct OutputLimit(pub u64);

impl std::fmt::Display for OutputLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the call wrote more than {} bytes of output (--max-output)", self.0)
    }
}

impl std::error::Error for OutputLimit {}

/// Why a pipe can no longer be written.
#[derive(Debug)]
pub enum Closed {
    Limit(OutputLimit),
    /// The reader reported with [`Output::fail`] that it cannot take the output.
    Failed(Broken),
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Closed::Limit(limit) => limit.fmt(f),
            Closed::Failed(broken) => write!(f, "cannot write the output: {}", io::Error::from(*broken)),
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

/// The reading end of both output streams of one call. Cheap to clone; one reader at a time. The pipe is allocated
/// when it is first used or cloned.
#[derive(Clone)]
pub struct Output {
    limit: u64,
    pipe: Shared<OutputPipe>,
}

#[derive(Default)]
struct OutputPipe {
    state: Mutex<OutputState>,
    written: Notify,
    taken: Notify,
}

#[derive(Default)]
struct OutputState {
    chunks: VecDeque<Chunk>,
    buffered: usize,
    total: u64,
    /// Why each stream can no longer be written. The other stream still can.
    failed: [Option<Broken>; 2],
    /// The waker of a writer that polls for space.
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
    /// Creates a pipe that accepts at most `limit` bytes.
    pub fn new(limit: u64) -> Output {
        Output { limit, pipe: Shared::default() }
    }

    fn pipe(&self) -> &OutputPipe {
        self.pipe.get()
    }

    /// Takes what has been written and not yet taken, oldest first, without waiting.
    pub fn take(&self) -> Vec<Chunk> {
        let mut state = lock(&self.pipe().state);
        if state.chunks.is_empty() {
            return Vec::new();
        }
        state.buffered = 0;
        let chunks = std::mem::take(&mut state.chunks).into();
        let waker = state.waker.take();
        drop(state);
        self.pipe().taken.notify_waiters();
        waker.into_iter().for_each(Waker::wake);
        chunks
    }

    /// Waits until something has been written, and takes it. It never ends by itself: wait for the end of the
    /// call at the same time.
    pub async fn next(&self) -> Vec<Chunk> {
        loop {
            let written = self.pipe().written.notified();
            let chunks = self.take();
            if !chunks.is_empty() {
                return chunks;
            }
            written.await;
        }
    }

    /// Writes the output of a guest on another node, and waits for space first.
    ///
    /// # Errors
    /// [`Closed`] if the output exceeds the limit of this pipe, or the reader cannot take it.
    pub async fn push(&self, chunk: Chunk) -> Result<(), Closed> {
        self.wait_for_room(chunk.stream).await;
        self.put(chunk.stream, &chunk.data)
    }

    /// Reports that the output of this stream is lost. The guest's next writes to it fail with this reason.
    pub fn fail(&self, stream: Stream, broken: Broken) {
        let mut state = lock(&self.pipe().state);
        state.failed[stream as usize].get_or_insert(broken);
        let waker = state.waker.take();
        drop(state);
        self.pipe().taken.notify_waiters();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Returns how many bytes can be written now.
    ///
    /// # Errors
    /// [`Closed`] if the stream can no longer be written.
    pub(crate) fn room(&self, stream: Stream) -> Result<usize, Closed> {
        lock(&self.pipe().state).room(stream)
    }

    /// Writes without waiting for space.
    ///
    /// # Errors
    /// [`Closed`] if the output exceeds the limit of this pipe, or the reader cannot take it.
    pub(crate) fn put(&self, stream: Stream, bytes: &[u8]) -> Result<(), Closed> {
        let mut state = lock(&self.pipe().state);
        if let Some(broken) = state.failed[stream as usize] {
            return Err(Closed::Failed(broken));
        }
        let total = state.total.saturating_add(bytes.len() as u64);
        if total > self.limit {
            return Err(Closed::Limit(OutputLimit(self.limit)));
        }
        state.total = total;
        state.buffered += bytes.len();
        match state.chunks.back_mut() {
            Some(last) if last.stream == stream => last.data.extend_from_slice(bytes),
            _ => state.chunks.push_back(Chunk { stream, data: bytes.to_vec() }),
        }
        drop(state);
        self.pipe().written.notify_one();
        Ok(())
    }

    /// Waits until the stream has space, or can no longer be written.
    pub(crate) async fn wait_for_room(&self, stream: Stream) {
        loop {
            let taken = self.pipe().taken.notified();
            if !matches!(self.room(stream), Ok(0)) {
                return;
            }
            taken.await;
        }
    }

    /// Writes as many of the bytes as there is space for. If there is none, wakes the writer later.
    pub(crate) fn poll_put(
        &self,
        stream: Stream,
        bytes: &[u8],
        cx: &Context<'_>,
    ) -> Poll<Result<usize, Closed>> {
        let mut state = lock(&self.pipe().state);
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

/// The writing end of the standard input of one call. Cheap to clone; one source at a time.
#[derive(Clone, Default)]
pub struct Input(Shared<InputPipe>);

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
    /// Why no more can be read, if the input did not simply end.
    failed: Option<Broken>,
    wanted: bool,
    /// The waker of a reader that polls for bytes.
    waker: Option<Waker>,
}

impl Input {
    /// Waits until the guest asks for input that is not there. A source reads only then, so that
    /// input that the guest does not read stays for the next reader.
    pub async fn wanted(&self) {
        loop {
            let wanted = self.0.get().wanted.notified();
            if std::mem::take(&mut lock(&self.0.get().state).wanted) {
                return;
            }
            wanted.await;
        }
    }

    /// Supplies bytes to the guest. No bytes mean the end.
    pub fn supply(&self, bytes: &[u8]) {
        let mut state = lock(&self.0.get().state);
        state.bytes.extend(bytes);
        state.ended |= bytes.is_empty();
        let waker = state.waker.take();
        drop(state);
        self.0.get().supplied.notify_waiters();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Reports that no more can be read. After the supplied bytes, the guest's reads fail with this reason.
    pub fn fail(&self, broken: Broken) {
        lock(&self.0.get().state).failed = Some(broken);
        self.supply(&[]);
    }

    /// Takes bytes as a guest does, and waits for at least one. No bytes mean the end.
    ///
    /// # Errors
    /// The reason why no more can be read.
    pub async fn pull(&self, most: usize) -> Result<Vec<u8>, Broken> {
        loop {
            match self.take(most)? {
                Some(bytes) if bytes.is_empty() => self.wait().await,
                Some(bytes) => return Ok(bytes),
                None => return Ok(Vec::new()),
            }
        }
    }

    /// Takes bytes without waiting: `None` at the end, no bytes if the guest has to wait.
    ///
    /// # Errors
    /// The reason why no more can be read.
    pub(crate) fn take(&self, most: usize) -> Result<Option<Vec<u8>>, Broken> {
        let mut state = lock(&self.0.get().state);
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
            self.0.get().wanted.notify_one();
        }
    }

    /// Waits until there are bytes, or the input ends.
    pub(crate) async fn wait(&self) {
        loop {
            let supplied = self.0.get().supplied.notified();
            {
                let mut state = lock(&self.0.get().state);
                if state.ended || !state.bytes.is_empty() {
                    return;
                }
                self.want(&mut state);
            }
            supplied.await;
        }
    }

    /// Takes bytes; none at the end. If there are none yet, wakes the reader later.
    pub(crate) fn poll_take(&self, most: usize, cx: &Context<'_>) -> Poll<Result<Vec<u8>, Broken>> {
        let mut state = lock(&self.0.get().state);
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
