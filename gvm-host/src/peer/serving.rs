//! Serves the calls of one channel.
//!
//! In: frames with calls and cancellations. Out: frames with their outcomes, each as soon as it is there. Calls that a
//! channel carries end with it. Must not know: how calls run, sessions. Runs on the threads for calls.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::{AbortHandle, Abortable};
use futures::stream::FuturesUnordered;

use super::callee::{Begun, Callee, Entered, Ran};
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::spin::Spin;
use crate::base::value::{List, Value};
use crate::base::{limits, threads};
use crate::call::{Call, Chunk, Outcome};
use crate::wire::call::{Apart, check_size};
use crate::wire::channel::{self, Arrived, Incoming, Kind, Outgoing, Parts};
use crate::wire::gate::Pass;
use crate::wire::large::{self, Blob, Large};
use crate::wire::transport::Transport;
use crate::wire::value::exceeds;

/// Outcomes are sent when they have this many bytes, while further calls wait in the buffer: so both sides work at the
/// same time.
const BATCH: usize = 2 << 10;

/// No further calls are read while this many bytes of outcomes wait for the other side to read them.
const UNSENT: usize = 1 << 20;

/// Serves a channel until the other side closes it or the session is gone.
///
/// # Errors
/// Errors of the connection; `InvalidData` if the other side breaks the protocol.
pub async fn serve(callee: Arc<Callee>, mut transport: Transport) -> io::Result<()> {
    transport.move_here()?;
    // Without a place, the connection closes, and the other side uses the channels that it has.
    let Ok(_place) = callee.channels.enter("channels") else { return Ok(()) };
    channel::accept(&mut transport).await?;
    let gone = callee.gone.clone();
    let mut serving = Serving {
        callee,
        stream: transport,
        incoming: Incoming::default(),
        outgoing: Outgoing::default(),
        arriving: HashMap::new(),
        kept: HashMap::new(),
        running: FuturesUnordered::new(),
        handles: HashMap::new(),
        spin: Spin::default(),
    };
    gone.run_until_cancelled(poll_fn(|cx| serving.poll(cx))).await.unwrap_or(Ok(()))
}

struct Serving {
    callee: Arc<Callee>,
    stream: Transport,
    incoming: Incoming,
    outgoing: Outgoing,
    /// The calls whose parts arrive.
    arriving: HashMap<u64, Arriving>,
    /// The results whose parts wait to be sent.
    kept: HashMap<u64, Pass>,
    running: FuturesUnordered<Abortable<Running>>,
    handles: HashMap<u64, AbortHandle>,
    spin: Spin,
}

type Running = Pin<Box<dyn Future<Output = (u64, Ran<Split>)> + Send>>;

struct Arriving {
    call: Call,
    apart: Apart,
    has_input: bool,
    entered: Entered,
    bytes: Pass,
}

/// An outcome, and the parts of its result if that is large.
struct Split {
    outcome: Outcome,
    large: Option<Large>,
    parts: Parts,
}

/// Splits a large result. One that is too large to cross becomes an error, with the effect that the guest ran.
fn split(mut outcome: Outcome) -> Split {
    let is_large = |value: &mut Value| exceeds(std::slice::from_ref(value), limits::PART_FROM as u64);
    let result = outcome.result.as_mut().ok().and_then(|result| result.take_if(is_large));
    let Some(result) = result else { return Split { outcome, large: None, parts: Vec::new() } };
    match large::checked("a result", vec![result]) {
        Ok(apart) => {
            let (large, parts) = apart.to_follow();
            Split { outcome, large: Some(large), parts }
        }
        Err(error) => {
            outcome.result = Err(error.with_effect(Effect::RanAndFailed));
            Split { outcome, large: None, parts: Vec::new() }
        }
    }
}

impl Serving {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut turns = channel::TURN;
        for _ in 0..channel::TURN {
            let more = self.take_frames()?;
            self.collect(cx);
            let sent = self.outgoing.poll_send(cx, &mut self.stream, &mut turns, threads::drop_aside)?;
            if !self.kept.is_empty() {
                self.kept.retain(|id, _| self.outgoing.has_parts(*id));
            }
            if sent.is_pending() && (more || self.outgoing.waiting_frames() > UNSENT) {
                return Poll::Pending;
            }
            if more {
                continue;
            }
            match self.incoming.poll_fill(cx, &mut self.stream)? {
                Poll::Ready(true) => self.spin.happened(),
                Poll::Ready(false) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    self.spin.look_again(cx);
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes the outcomes of calls that have ended.
    fn collect(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(ended)) = Pin::new(&mut self.running).poll_next(cx) {
            // One that was cancelled has no outcome.
            if let Ok((id, ran)) = ended {
                self.handles.remove(&id);
                self.write(id, ran);
            }
        }
    }

    fn write(&mut self, id: u64, (split, output): Ran<Split>) {
        let Split { outcome, large, parts } = split;
        if !parts.is_empty() {
            let bytes = parts.iter().map(|part| part.bytes().len()).sum();
            let Some(kept) = self.callee.kept.take(bytes) else {
                let waiting = limits::bytes(self.callee.kept.inside() as u64);
                let message =
                    format!("the node cannot hold this result: {waiting} of results already wait to be sent");
                let error = Error::new(Code::Overloaded, message)
                    .with_help("make fewer calls with large results at once")
                    .with_effect(Effect::RanAndFailed);
                let outcome = Outcome { result: Err(error), ..outcome };
                return self.outgoing.outcome(id, &outcome, None, &output, Vec::new());
            };
            self.kept.insert(id, kept);
        }
        self.outgoing.outcome(id, &outcome, large.as_ref(), &output, parts);
    }

    fn refuse(&mut self, id: u64, error: Error) {
        let none: &[Chunk] = &[];
        self.outgoing.outcome(id, &Outcome::failed(error), None, none, Vec::new());
    }

    /// Takes what has arrived. Returns whether it stopped because outcomes wait to be sent.
    fn take_frames(&mut self) -> io::Result<bool> {
        loop {
            if self.outgoing.waiting_frames() >= BATCH {
                return Ok(true);
            }
            match self.incoming.take()? {
                None => return Ok(false),
                Some(Arrived::Parts(id, parts)) => self.arrived(id, parts)?,
                Some(Arrived::Frame(frame)) => match frame.kind {
                    Kind::Call => {
                        let (id, parts, read) = (frame.id, frame.parts, frame.call());
                        self.take_call(id, parts, read)?;
                    }
                    Kind::Cancel => {
                        let id = frame.id;
                        self.cancel(id);
                    }
                    _ => return Err(channel::invalid("the calling side sent an outcome")),
                },
            }
        }
    }

    fn cancel(&mut self, id: u64) {
        self.arriving.remove(&id);
        self.incoming.forget(id);
        self.outgoing.drop_parts(id);
        if let Some(handle) = self.handles.remove(&id) {
            handle.abort();
        }
    }

    fn take_call(&mut self, id: u64, parts: u64, read: Result<(Call, Apart, bool)>) -> io::Result<()> {
        if self.handles.contains_key(&id) || self.arriving.contains_key(&id) {
            return Err(channel::invalid("two calls have the same id"));
        }
        let entered = read.and_then(|(mut call, apart, has_input)| {
            let entered = self.callee.enter(&mut call)?;
            Ok((call, apart, has_input, entered))
        });
        match entered {
            Ok((call, apart, has_input, entered)) if apart.is_empty() => {
                let begun = self.callee.begin(call, has_input, split);
                self.begun(id, entered, begun);
            }
            Ok((call, apart, has_input, entered)) => {
                let blobs = blobs(&apart);
                if channel::padded(&blobs) != Some(parts) {
                    return Err(channel::invalid("the parts of a call do not have the announced length"));
                }
                match self.rooms(&apart, &blobs) {
                    Ok((rooms, bytes)) => {
                        self.incoming.expect(id, rooms);
                        let arriving = Arriving { call, apart, has_input, entered, bytes };
                        self.arriving.insert(id, arriving);
                    }
                    Err(error) => {
                        self.refuse(id, error.with_effect(Effect::NotStarted));
                    }
                }
            }
            Err(error) => {
                self.refuse(id, error);
            }
        }
        Ok(())
    }

    /// Allocates the memory of large arguments, within the limits.
    fn rooms(&self, apart: &Apart, blobs: &[Blob]) -> Result<(Vec<List>, Pass)> {
        let module = apart.module.map_or(0, |module| module.bytes);
        let all: u64 = blobs.iter().map(|blob| blob.bytes).sum();
        check_size("arguments", all - module, limits::VALUE_BYTES)?;
        check_size("a module", module, limits::MODULE_BYTES)?;
        let Some(bytes) = self.callee.arriving.take(all as usize) else {
            let arriving = limits::bytes(self.callee.arriving.inside() as u64);
            return Err(Error::new(
                Code::Overloaded,
                format!("{arriving} of large values are already being transferred to this node"),
            )
            .with_help("make fewer calls with large values at once"));
        };
        let rooms = blobs.iter().map(|blob| large::room(blob.element, blob.bytes as usize));
        Ok((rooms.collect::<Result<_>>()?, bytes))
    }

    /// Begins the call whose parts have arrived.
    fn arrived(&mut self, id: u64, mut parts: Vec<List>) -> io::Result<()> {
        let Some(Arriving { call, apart, has_input, entered, bytes }) = self.arriving.remove(&id) else {
            return Err(channel::invalid("parts arrived without a call"));
        };
        let complete = move |mut call: Call| {
            if let Some(module) = apart.module.and_then(|_| parts.pop()) {
                call.target.module = large::module(module)?;
            }
            if let Some(large) = apart.args {
                call.args = large.arrived(parts)?;
            }
            drop(bytes);
            Ok(call)
        };
        let begun = self.callee.begin_with(call, has_input, complete, split);
        self.begun(id, entered, begun);
        Ok(())
    }

    fn begun(&mut self, id: u64, entered: Entered, begun: Begun<Split>) {
        match begun {
            Begun::Done(ran) => self.write(id, ran),
            Begun::Runs(run) => {
                let (handle, registration) = AbortHandle::new_pair();
                self.handles.insert(id, handle);
                let run: Running = Box::pin(async move {
                    let ran = run.await;
                    drop(entered);
                    (id, ran)
                });
                self.running.push(Abortable::new(run, registration));
            }
        }
    }
}

/// Returns the parts that follow a call, in their order.
fn blobs(apart: &Apart) -> Vec<Blob> {
    let args = apart.args.as_ref().map(Large::blobs).unwrap_or_default();
    args.into_iter().chain(apart.module).collect()
}
