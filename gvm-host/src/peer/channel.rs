//! The calling side of a channel.
//!
//! In: calls of this node on one peer. Out: their outcomes. Dropping the future of a call cancels the call. Any thread
//! may call; one drives the connection with [`Channel::poll`]: the thread that waits for its calls, or a task. Must not
//! know: who calls, how the connection was dialled.

use std::collections::{HashMap, HashSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::thread::ThreadId;
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::answers;
use crate::base::device::NodeName;
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::id::Hash;
use crate::base::value::{List, Value};
use crate::base::{limits, threads};
use crate::call::{Args, Call, Chunk, ModuleBytes, ModuleRef, Outcome};
use crate::wire::call::{Apart, check_size};
use crate::wire::channel::{Arrived, Incoming, Kind, Outgoing, Parts, TURN, invalid, padded};
use crate::wire::large::{self, Content, Large};
use crate::wire::transport::Transport;
use crate::wire::value::exceeds;

/// How long outcomes may still arrive after the session has ended: the other side sends them before it closes the channel.
const LAST_OUTCOMES: Duration = Duration::from_secs(1);

/// A channel to one peer. Cheap to clone; it closes with the last clone. `Send + Sync`.
#[derive(Clone)]
pub struct Channel(Arc<Inner>);

struct Inner {
    peer: NodeName,
    /// The only thread that drives the connection, if it is a thread that waits for its calls.
    driver: Option<ThreadId>,
    /// Cancelled when the session is gone.
    gone: CancellationToken,
    state: Mutex<State>,
}

struct State {
    stream: Transport,
    incoming: Incoming,
    outgoing: Outgoing,
    calls: HashMap<u64, Slot>,
    next: u64,
    /// Modules that were sent. The other side may have dropped them again.
    modules: HashSet<Hash>,
    /// The outcomes whose parts arrive.
    arriving: HashMap<u64, Reply>,
    ended: bool,
    /// Wakes the task that drives the connection.
    task: Option<Waker>,
    going: Pin<Box<WaitForCancellationFutureOwned>>,
    last_outcomes: Option<Pin<Box<Sleep>>>,
}

enum Slot {
    Waits(Option<Waker>),
    Done(Result<Reply>),
}

/// An outcome as it arrived.
struct Reply {
    outcome: Outcome,
    large: Option<Large>,
    parts: Vec<List>,
    output: Vec<Chunk>,
}

/// A call as it crosses. Cheap to clone: what is large is shared.
#[derive(Clone)]
struct Request {
    call: Call,
    apart: Apart,
    parts: Parts,
}

impl Request {
    /// Splits a call with large arguments. A module that would be sent is named by its hash instead, and returned.
    fn new(mut call: Call) -> Result<(Request, Option<ModuleBytes>)> {
        let large = |values: &[Value]| exceeds(values, limits::PART_FROM as u64);
        let split = match &mut call.args {
            Args::Values(values) if large(values) => {
                Some(large::checked("arguments", std::mem::take(values))?)
            }
            Args::Text(text) if text.len() > limits::PART_FROM => {
                check_size("arguments", text.len() as u64, limits::VALUE_BYTES)?;
                Some(large::take_text_apart(text))
            }
            Args::Argv(argv) => {
                let bytes = argv.iter().map(|arg| arg.len() as u64 + 1).sum();
                check_size("arguments", bytes, limits::ARGV_BYTES)?;
                None
            }
            Args::Values(_) | Args::Text(_) => None,
        };
        let (args, parts) = split.map(large::Apart::to_follow).unzip();
        let module = match &call.target.module {
            ModuleRef::Bytes(bytes) => Some(bytes.clone()),
            _ => None,
        };
        if let Some(module) = &module {
            call.target.module = ModuleRef::Loaded(module.hash());
        }
        let apart = Apart { args, module: None };
        Ok((Request { call, apart, parts: parts.unwrap_or_default() }, module))
    }

    /// Returns the same call with the bytes of its module.
    fn with_module(mut self, module: ModuleBytes) -> Request {
        if module.len() > limits::PART_FROM {
            let content = Content::Bytes(module.shared());
            self.apart.module = Some(content.blob(0));
            self.parts.push(content);
        }
        self.call.target.module = ModuleRef::Bytes(module);
        self
    }
}

impl Channel {
    /// Takes over a connection that was opened as a channel of a session with `peer`. `gone` is cancelled when that
    /// session is gone. If the channel has a `driver`, only calls of this thread can use it.
    pub fn new(
        stream: Transport,
        peer: NodeName,
        driver: Option<ThreadId>,
        gone: CancellationToken,
    ) -> Channel {
        let state = State {
            stream,
            incoming: Incoming::default(),
            outgoing: Outgoing::default(),
            calls: HashMap::new(),
            next: 0,
            modules: HashSet::new(),
            arriving: HashMap::new(),
            ended: false,
            task: None,
            going: Box::pin(gone.clone().cancelled_owned()),
            last_outcomes: None,
        };
        Channel(Arc::new(Inner { peer, driver, gone, state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether new calls can use the channel.
    pub fn is_open(&self) -> bool {
        !self.0.gone.is_cancelled() && !self.state().ended
    }

    /// Whether a call waits for its outcome.
    pub fn is_busy(&self) -> bool {
        !self.state().calls.is_empty()
    }

    /// Runs a call on the other side. Returns its outcome and the output that came with it.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` if the arguments are too large to cross; `NODE_DOWN`.
    pub async fn call(&self, call: Call, has_input: bool) -> Result<(Outcome, Vec<Chunk>)> {
        let (request, module) = Request::new(call)?;
        let reply = match module {
            None => self.send(request, has_input)?.await?,
            Some(module) => self.send_with_module(request, module, has_input).await?,
        };
        let Reply { mut outcome, large, parts, output } = reply;
        if let Some(large) = large {
            let value = large.arrived(parts).and_then(large::one_value).map(Some);
            outcome.result = value.map_err(|error| error.with_effect(Effect::RanAndFailed));
        }
        Ok((outcome, output))
    }

    /// Sends a call whose module the other side may not have. The bytes are sent only if it has not loaded them.
    async fn send_with_module(
        &self,
        request: Request,
        module: ModuleBytes,
        has_input: bool,
    ) -> Result<Reply> {
        let is_known = self.state().modules.contains(&module.hash());
        if is_known {
            let reply = self.send(request.clone(), has_input)?.await?;
            let missing =
                |error: &Error| error.code() == Code::ModuleNotFound && error.effect() == Effect::NotStarted;
            if !reply.outcome.result.as_ref().is_err_and(missing) {
                return Ok(reply);
            }
        }
        let hash = module.hash();
        let reply = self.send(request.with_module(module), has_input)?.await?;
        let modules = &mut self.state().modules;
        if modules.len() >= limits::LOADED_MODULES {
            modules.clear();
        }
        modules.insert(hash);
        Ok(reply)
    }

    fn send(&self, request: Request, has_input: bool) -> Result<InFlight> {
        let mut state = self.state();
        if state.ended {
            return Err(lost(&self.0.peer).with_effect(Effect::NotStarted));
        }
        let id = state.next;
        state.next += 1;
        let Request { call, apart, parts } = request;
        state.outgoing.call(id, &call, &apart, has_input, parts);
        state.calls.insert(id, Slot::Waits(None));
        state.wake();
        drop(state);
        Ok(InFlight { channel: self.clone(), id, done: false })
    }

    /// Drives the connection: sends what waits, and receives outcomes. Ready when the channel has ended. Must be polled
    /// on the runtime to which the connection belongs.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.ended {
            return Poll::Ready(());
        }
        match state.drive(cx) {
            Poll::Pending => {
                if self.0.driver.is_none()
                    && !state.task.as_ref().is_some_and(|task| task.will_wake(cx.waker()))
                {
                    state.task = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Poll::Ready(ended) => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %self.0.peer, "a channel ended: {error}");
                }
                state.end();
                Poll::Ready(())
            }
        }
    }
}

impl State {
    /// Wakes the task that drives the connection, once for all that happens until it runs.
    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn end(&mut self) {
        self.ended = true;
        for slot in self.calls.values_mut() {
            if let Slot::Waits(waker) = slot {
                waker.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    /// Ready at the end of the connection.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turns = TURN;
        for _ in 0..TURN {
            // What cannot be sent yet is sent when the other side has read more.
            let _ = self.outgoing.poll_send(cx, &mut self.stream, &mut turns, threads::drop_aside)?;
            self.take_frames()?;
            match self.incoming.poll_fill(cx, &mut self.stream)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Ok(())),
                Poll::Pending => return self.last(cx),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready some time after the session has ended.
    fn last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.last_outcomes.is_none() {
            ready!(self.going.as_mut().poll(cx));
        }
        let last = self.last_outcomes.get_or_insert_with(|| Box::pin(sleep(LAST_OUTCOMES)));
        last.as_mut().poll(cx).map(Ok)
    }

    /// Takes what has arrived.
    fn take_frames(&mut self) -> io::Result<()> {
        loop {
            let frame = match self.incoming.take()? {
                Some(Arrived::Frame(frame)) => frame,
                Some(Arrived::Parts(id, parts)) => {
                    if let Some(mut reply) = self.arriving.remove(&id) {
                        reply.parts = parts;
                        self.deliver(id, Ok(reply));
                    }
                    continue;
                }
                None => return Ok(()),
            };
            if frame.kind != Kind::Outcome {
                return Err(invalid("the called side sent a call"));
            }
            let (id, parts, read) = (frame.id, frame.parts, frame.outcome());
            let (outcome, large, output) = match read {
                Ok(read) => read,
                Err(error) => {
                    self.deliver(id, Err(error.with_effect(Effect::Unknown)));
                    continue;
                }
            };
            let blobs = large.as_ref().map(Large::blobs).unwrap_or_default();
            if padded(&blobs) != Some(parts) {
                return Err(invalid("the parts of an outcome do not have the announced length"));
            }
            let reply = Reply { outcome, large, parts: Vec::new(), output };
            if blobs.is_empty() || !self.calls.contains_key(&id) {
                self.deliver(id, Ok(reply));
                continue;
            }
            let all = blobs.iter().map(|blob| blob.bytes).sum();
            let rooms = check_size("a result", all, limits::VALUE_BYTES).and_then(|()| {
                blobs.iter().map(|blob| large::room(blob.element, blob.bytes as usize)).collect()
            });
            match rooms {
                Ok(rooms) => {
                    self.incoming.expect(id, rooms);
                    self.arriving.insert(id, reply);
                }
                Err(error) => self.deliver(id, Err(error.with_effect(Effect::RanAndFailed))),
            }
        }
    }

    /// Gives an outcome to the call that waits for it. One that was cancelled is no longer there.
    fn deliver(&mut self, id: u64, reply: Result<Reply>) {
        let Some(slot) = self.calls.get_mut(&id) else { return };
        if let Slot::Waits(waker) = std::mem::replace(slot, Slot::Done(reply)) {
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

fn lost(peer: &NodeName) -> Error {
    answers::cut_off(peer, capnp::Error::disconnected("the connection was lost".into()))
}

/// A call that was sent. Dropping it cancels the call.
struct InFlight {
    channel: Channel,
    id: u64,
    done: bool,
}

impl Future for InFlight {
    type Output = Result<Reply>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Reply>> {
        let InFlight { channel, id, done } = self.get_mut();
        let inner = &channel.0;
        let state = &mut *channel.state();
        match state.calls.get_mut(id) {
            Some(Slot::Waits(_)) if state.ended => {}
            Some(Slot::Waits(_))
                if inner.driver.is_some_and(|driver| driver != std::thread::current().id()) =>
            {
                let why = "a call was begun on a thread that waits, and then polled on another thread";
                return Poll::Ready(Err(Error::internal(why).with_effect(Effect::Unknown)));
            }
            Some(Slot::Waits(waker)) => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            Some(Slot::Done(_)) | None => {}
        }
        *done = true;
        match state.calls.remove(id) {
            Some(Slot::Done(reply)) => Poll::Ready(reply),
            _ => Poll::Ready(Err(lost(&inner.peer))),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.channel.state();
        let Some(Slot::Waits(_)) = state.calls.remove(&self.id) else { return };
        if state.ended {
            return;
        }
        state.arriving.remove(&self.id);
        state.incoming.forget(self.id);
        state.outgoing.cancel(self.id);
        state.wake();
        if self.channel.0.driver.is_some() {
            // The thread may not wait again, so the cancellation is sent now. If that is impossible, the end of the
            // connection cancels the call, unless the thread has other calls there, for which it waits again.
            let state = &mut *state;
            let mut nobody = Context::from_waker(Waker::noop());
            let sent =
                state.outgoing.poll_send(&mut nobody, &mut state.stream, &mut { TURN }, threads::drop_aside);
            if !matches!(sent, Poll::Ready(Ok(()))) && state.calls.is_empty() {
                state.end();
                state.stream.close();
            }
        }
    }
}
