//! A guest's standard streams: pipes of its own, bounded both ways.
//!
//! In: what a guest writes, what a source supplies. Out: chunks in the order they were written;
//! bytes when the guest asks for them. Must not know: terminals, sockets; their owners read and
//! feed these pipes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::call::{Broken, Chunk, Stream};
use crate::limits;

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

impl From<Closed> for StreamError {
    fn from(closed: Closed) -> StreamError {
        match closed {
            Closed::Limit(limit) => StreamError::Trap(wasmtime::Error::new(limit)),
            Closed::Failed(broken) => StreamError::LastOperationFailed(io::Error::from(broken).into()),
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
    fn room(&self, stream: Stream) -> Result<usize, Closed> {
        lock(&self.0.state).room(stream)
    }

    fn put(&self, stream: Stream, bytes: &[u8]) -> Result<(), Closed> {
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

    async fn wait_for_room(&self, stream: Stream) {
        loop {
            let taken = self.0.taken.notified();
            if !matches!(self.room(stream), Ok(0)) {
                return;
            }
            taken.await;
        }
    }
}

/// Where an instance's streams lead: the pipes of the call that runs in it. A live instance turns
/// them to each call's in turn. Clones turn together.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Mutex<(Output, Option<Input>)>>);

impl Outlet {
    /// An outlet into these pipes; no input is an input that has ended.
    pub fn new(output: Output, input: Option<Input>) -> Outlet {
        Outlet(Arc::new(Mutex::new((output, input))))
    }

    /// Leads elsewhere from now on.
    pub fn turn(&self, output: Output, input: Option<Input>) {
        *lock(&self.0) = (output, input);
    }

    fn output(&self) -> Output {
        lock(&self.0).0.clone()
    }

    fn input(&self) -> Option<Input> {
        lock(&self.0).1.clone()
    }

    pub fn writer(&self, stream: Stream, terminal: bool) -> OutputWriter {
        OutputWriter { outlet: self.clone(), stream, terminal }
    }

    pub fn reader(&self, terminal: bool) -> InputReader {
        InputReader { outlet: self.clone(), terminal }
    }
}

/// The guest's end of one output stream.
#[derive(Clone)]
pub(crate) struct OutputWriter {
    outlet: Outlet,
    stream: Stream,
    terminal: bool,
}

impl IsTerminal for OutputWriter {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdoutStream for OutputWriter {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for OutputWriter {
    async fn ready(&mut self) {
        self.outlet.output().wait_for_room(self.stream).await;
    }
}

impl OutputStream for OutputWriter {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        Ok(self.outlet.output().put(self.stream, &bytes)?)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.outlet.output().room(self.stream)?)
    }
}

/// Preview 3 alone asks for this form; it waits for room by the same rule.
impl AsyncWrite for OutputWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let output = self.outlet.output();
        let mut state = lock(&output.0.state);
        let room = state.room(self.stream)?;
        if room == 0 {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        let part = &bytes[..bytes.len().min(room)];
        Poll::Ready(output.put(self.stream, part).map(|()| part.len()).map_err(io::Error::from))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
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
    fn take(&self, most: usize) -> Result<Option<Vec<u8>>, Broken> {
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

    async fn wait(&self) {
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
}

/// The guest's end of standard input.
#[derive(Clone)]
pub(crate) struct InputReader {
    outlet: Outlet,
    terminal: bool,
}

impl IsTerminal for InputReader {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdinStream for InputReader {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for InputReader {
    async fn ready(&mut self) {
        if let Some(input) = self.outlet.input() {
            input.wait().await;
        }
    }
}

impl InputStream for InputReader {
    fn read(&mut self, size: usize) -> StreamResult<bytes::Bytes> {
        let Some(input) = self.outlet.input() else { return Err(StreamError::Closed) };
        match input.take(size) {
            Ok(Some(bytes)) => Ok(bytes.into()),
            Ok(None) => Err(StreamError::Closed),
            Err(broken) => Err(StreamError::LastOperationFailed(io::Error::from(broken).into())),
        }
    }
}

/// Preview 3 alone asks for this form.
impl AsyncRead for InputReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(input) = self.outlet.input() else { return Poll::Ready(Ok(())) };
        let mut state = lock(&input.0.state);
        if state.bytes.is_empty() && !state.ended {
            input.want(&mut state);
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let (true, Some(broken)) = (state.bytes.is_empty(), state.failed) {
            return Poll::Ready(Err(broken.into()));
        }
        let most = into.remaining().min(state.bytes.len());
        state.bytes.drain(..most).for_each(|byte| into.put_slice(&[byte]));
        Poll::Ready(Ok(()))
    }
}
