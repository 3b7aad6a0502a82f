//! The standard streams of a guest, on top of the pipes of the call that runs in it.
//!
//! In: a guest's reads and writes. Out: reads and writes of the call's pipes (`call/streams.rs`). Must not know: what
//! is at the other end of the pipes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::call::Stream;
use crate::call::streams::{Closed, Input, Output, OutputLimit};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Converts the error of a closed pipe for WASI.
fn refused(closed: Closed) -> StreamError {
    match closed {
        Closed::Limit(limit) => StreamError::Trap(wasmtime::Error::new(limit)),
        Closed::Failed(broken) => StreamError::LastOperationFailed(io::Error::from(broken).into()),
    }
}

/// The pipes that an instance's streams use: those of the call that runs in it. A live instance switches them for each
/// call. Clones share the pipes.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Mutex<Pipes>>);

struct Pipes {
    output: Output,
    input: Option<Input>,
    /// The limit of the output that the guest went beyond with WASI 0.3, which tells it of a failure and goes on.
    exceeded: Option<u64>,
}

impl Outlet {
    /// Creates an outlet with these pipes. No input behaves like an input that has ended.
    pub fn new(output: Output, input: Option<Input>) -> Outlet {
        Outlet(Arc::new(Mutex::new(Pipes { output, input, exceeded: None })))
    }

    /// Swaps the pipes with those of another call.
    pub fn turn(&self, output: &mut Output, input: &mut Option<Input>) {
        let mut pipes = lock(&self.0);
        std::mem::swap(&mut pipes.output, output);
        std::mem::swap(&mut pipes.input, input);
        pipes.exceeded = None;
    }

    /// Returns the limit of the output, if the guest went beyond it with WASI 0.3.
    pub fn exceeded(&self) -> Option<OutputLimit> {
        lock(&self.0).exceeded.map(OutputLimit)
    }

    fn output(&self) -> Output {
        lock(&self.0).output.clone()
    }

    fn input(&self) -> Option<Input> {
        lock(&self.0).input.clone()
    }

    pub fn writer(&self, stream: Stream, terminal: bool) -> OutputWriter {
        OutputWriter { outlet: self.clone(), stream, terminal, permitted: 0 }
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
    /// What the guest may write before it asks again. Without this, a guest that never asks could fill the pipe up to the
    /// limit of its output while nobody reads.
    permitted: usize,
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
        let Some(left) = self.permitted.checked_sub(bytes.len()) else {
            return Err(StreamError::trap("the guest writes more than `check-write` permitted"));
        };
        self.permitted = left;
        self.outlet.output().put(self.stream, &bytes).map_err(refused)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.permitted = self.outlet.output().room(self.stream).map_err(refused)?;
        Ok(self.permitted)
    }
}

/// Only WASI 0.3 uses this form; it waits for room in the same way.
impl AsyncWrite for OutputWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let put = self.outlet.output().poll_put(self.stream, bytes, cx);
        if let Poll::Ready(Err(Closed::Limit(OutputLimit(limit)))) = put {
            lock(&self.outlet.0).exceeded = Some(limit);
        }
        put.map_err(io::Error::from)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
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

/// Only WASI 0.3 uses this form.
impl AsyncRead for InputReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(input) = self.outlet.input() else { return Poll::Ready(Ok(())) };
        input.poll_take(into.remaining(), cx).map_ok(|bytes| into.put_slice(&bytes)).map_err(io::Error::from)
    }
}
