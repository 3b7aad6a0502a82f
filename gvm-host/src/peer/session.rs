//! The session capability: what a connected node can do here.
//!
//! In: calls from the other side. Out: their outcomes, and their output while it is written. A call lives as
//! long as its promise: when that is dropped (call cancelled, or connection lost), the guest stops. Must not
//! know: how the peer was accepted.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use gvm_wire::node_capnp::{done, session, streams};
use tokio::runtime::Handle as Workers;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::bulk::Bulk;
use super::service::{Run, Service, Started};
use super::term::Term;
use crate::base::error::{Effect, Error, Result};
use crate::base::id::Name;
use crate::base::limits::{self, Limits};
use crate::call::deadline::in_time;
use crate::call::stdio::Stdio;
use crate::call::streams::{Input, Output};
use crate::call::{Broken, Call, Chunk, ModuleRef, Outcome, Target};
use crate::wire;
use crate::wire::call::Apart;
use crate::wire::gate::Gate;
use crate::wire::large::{Blob, Large};
use crate::wire::rpc::contained;

/// The session of one peer.
pub struct SessionServer {
    /// Runs the peer's calls, and holds its live instances.
    pub service: Arc<dyn Service>,
    /// Ends with the session.
    pub term: Term,
    pub workers: Workers,
    /// Receives the output of the peer's calls and supplies their input.
    pub streams: streams::Client,
    /// The values that are too large for calls and outcomes.
    pub bulk: Rc<Bulk>,
    pub gate: Gate,
    /// Called with the reason when the peer says goodbye.
    pub goodbye: Box<dyn Fn(String)>,
}

impl SessionServer {
    /// Runs a call and sends what it writes. Returns the outcome, the reference to a result that crosses
    /// separately, and the output that was not sent yet and goes with the outcome.
    async fn serve(
        &self,
        mut call: Call,
        apart: Apart,
        has_input: bool,
    ) -> (Outcome, Option<Large>, Vec<Chunk>) {
        let refused = |error| (Outcome::failed(error), None, Vec::new());
        let entered = self.term.begin().and_then(|runs| Ok((runs, self.gate.enter("calls of one session")?)));
        let _pass = match entered.and_then(|pass| self.may_enter(&call.target).map(|()| pass)) {
            Ok(pass) => pass,
            Err(error) => return refused(error),
        };
        call.limits = limits::of_peers().narrow(call.limits);
        if !apart.is_empty() {
            let completed = self.term.within(self.bulk.complete(&mut call, apart)).await;
            if let Err(error) = completed.and_then(|completed| completed) {
                return refused(error.with_effect(Effect::NotStarted));
            }
        }
        let (mut outcome, output) = self.run(call, has_input).await;
        let large = self.bulk.keep(&mut outcome).await;
        (outcome, large, output)
    }

    /// Does the same for a call that is complete.
    async fn run(&self, call: Call, has_input: bool) -> (Outcome, Vec<Chunk>) {
        let id = call.id;
        let all = self.service.limits().narrow(call.limits);
        let stdio = Stdio { input: has_input.then(Input::default), ..Stdio::new(&all) };
        let pipes = (stdio.output.clone(), stdio.input.clone());
        let Started { run, is_fast } = self.service.run(call, stdio);
        let outcome = match is_fast {
            true => self.run_here_first(run, id, &pipes).await,
            false => self.run_on_workers(run, id, &pipes).await,
        };
        (outcome, pipes.0.take())
    }

    /// Polls the run once on this thread, which saves two thread hops. A run that waits or reaches its epoch
    /// tick moves to the workers.
    async fn run_here_first(&self, mut run: Run, id: Uuid, pipes: &(Output, Option<Input>)) -> Outcome {
        let first = std::future::poll_fn(|cx: &mut Context<'_>| {
            // Timers and blocking tasks use the runtime that is current at their first poll.
            let _entered = self.workers.enter();
            Poll::Ready(run.as_mut().poll(cx))
        })
        .await;
        match first {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => self.run_on_workers(run, id, pipes).await,
        }
    }

    /// Runs the call on the workers. The end of the session stops the guest within an epoch tick.
    async fn run_on_workers(&self, run: Run, id: Uuid, pipes: &(Output, Option<Input>)) -> Outcome {
        let ran = self.term.within(self.attend(run, id, pipes)).await;
        ran.unwrap_or_else(Outcome::failed)
    }

    /// Runs the call on the workers and serves its streams meanwhile.
    async fn attend(&self, run: Run, id: Uuid, (output, input): &(Output, Option<Input>)) -> Outcome {
        let mut run = AbortOnDropHandle::new(self.workers.spawn(run));
        let wants = async || match input {
            Some(input) => input.wanted().await,
            None => std::future::pending().await,
        };
        let mut asking = None;
        loop {
            tokio::select! {
                ended = &mut run => return ended.unwrap_or_else(|error| {
                    let error = Error::internal(format!("the task of the call failed: {error}"));
                    Outcome::failed(error.with_effect(Effect::Unknown))
                }),
                chunks = output.next() => {
                    for chunk in chunks {
                        // The guest gets an error for this stream and decides itself what to do.
                        let stream = chunk.stream;
                        let sent = self.send_output(id, chunk).await;
                        if let Some(broken) = sent.unwrap_or(Some(Broken::Pipe)) {
                            output.fail(stream, broken);
                        }
                    }
                }
                () = wants(), if asking.is_none() => asking = Some(Box::pin(self.ask_input(id))),
                data = async { match asking.as_mut() {
                    Some(asking) => asking.await,
                    None => std::future::pending().await,
                }} => {
                    asking = None;
                    if let Some(input) = input {
                        match data.unwrap_or(Err(Broken::Io)) {
                            Ok(data) => input.supply(&data),
                            Err(broken) => input.fail(broken),
                        }
                    }
                }
            }
        }
    }

    /// Completes a target, then runs work on it that may take long on the workers. Dropping the future, or the end
    /// of the session, stops the work.
    async fn on_workers<T: Send + 'static, W: Future<Output = Result<T>> + Send + 'static>(
        &self,
        read: Result<(Target, Option<Blob>)>,
        (timeout, began): (Option<Duration>, Instant),
        work: impl FnOnce(Target) -> W,
    ) -> Result<T> {
        let _runs = self.term.begin()?;
        let _pass = self.gate.enter("calls of one session")?;
        let done = async {
            let target = in_time(timeout, began, Effect::NotStarted, self.whole(read)).await?;
            let done = AbortOnDropHandle::new(self.workers.spawn(work(target))).await;
            done.unwrap_or_else(|error| Err(Error::internal(error.to_string())))
        };
        self.term.within(done).await?
    }

    /// Returns a target with the module bytes that crossed separately.
    async fn whole(&self, read: Result<(Target, Option<Blob>)>) -> Result<Target> {
        let (mut target, apart) = read?;
        self.may_enter(&target)?;
        self.bulk.complete_module(&mut target, apart).await?;
        Ok(target)
    }

    /// Refuses a call that the peer has no right to make, before its large parts cross.
    fn may_enter(&self, target: &Target) -> Result<()> {
        match &target.module {
            // The rights apply to its module, which is known only where the instance is found.
            ModuleRef::Instance(_) => Ok(()),
            module => self.service.rights().enter(module.name(), target.function.as_deref()),
        }
    }

    /// Sends what the guest wrote; returns why the other side takes no more of that stream.
    async fn send_output(&self, id: Uuid, chunk: Chunk) -> Result<Option<Broken>, capnp::Error> {
        for part in chunk.data.chunks(limits::OUTPUT_IN_FLIGHT) {
            let mut request = self.streams.output_request();
            request.get().set_call(id.as_bytes());
            let part = Chunk { stream: chunk.stream, data: part.to_vec() };
            wire::call::write_chunk(&part, request.get().init_chunk());
            let response = request.send().promise.await?;
            if let Some(broken) = wire::call::read_broken(response.get()?.get_broken()) {
                return Ok(Some(broken));
            }
        }
        Ok(None)
    }

    async fn ask_input(&self, id: Uuid) -> Result<Result<Vec<u8>, Broken>, capnp::Error> {
        let mut request = self.streams.input_request();
        request.get().set_call(id.as_bytes());
        request.get().set_most(limits::INPUT_CHUNK as u32);
        let response = request.send().promise.await?;
        let response = response.get()?;
        Ok(match wire::call::read_broken(response.get_broken()) {
            Some(broken) => Err(broken),
            None => Ok(response.get_data()?.to_vec()),
        })
    }
}

impl session::Server for SessionServer {
    async fn run(
        self: Rc<Self>,
        params: session::RunParams,
        mut results: session::RunResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let (outcome, large, rest) = match wire::call::read(params.get()?.get_call()?) {
                Ok((call, apart, has_input)) => {
                    drop(params);
                    self.serve(call, apart, has_input).await
                }
                Err(error) => (Outcome::failed(error), None, Vec::new()),
            };
            wire::call::write_outcome(&outcome, large.as_ref(), &rest, results.get().init_outcome());
            Ok(())
        })
        .await
    }

    async fn describe(
        self: Rc<Self>,
        params: session::DescribeParams,
        mut results: session::DescribeResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let (asked, began) = (params.get()?, Instant::now());
            let timeout = wire::call::read_deadline(asked.get_deadline());
            let limits = limits::of_peers().narrow(Limits { timeout, ..Limits::default() });
            let target = wire::call::read_target(asked.get_target()?);
            let service = self.service.clone();
            let describe = async move |target| service.describe(target, limits, began).await;
            match self.on_workers(target, (limits.timeout, began), describe).await {
                Ok((hash, ty)) => {
                    let mut ok = results.get().init_ok();
                    ok.set_hash(&hash.0);
                    if let Some(ty) = ty {
                        wire::value::write_func(&ty, ok.init_type());
                    }
                }
                Err(error) => wire::error::write(&error, results.get().init_error()),
            }
            Ok(())
        })
        .await
    }

    async fn spawn(
        self: Rc<Self>,
        params: session::SpawnParams,
        mut results: session::SpawnResults,
    ) -> Result<(), capnp::Error> {
        contained(async move {
            let (asked, began) = (params.get()?, Instant::now());
            let name = asked.get_name()?.to_str().unwrap_or_default().parse::<Name>();
            let limits = wire::call::read_limits(asked.get_limits()?, asked.get_deadline());
            let limits = limits::of_peers().narrow(limits);
            let target = wire::call::read_target(asked.get_target()?);
            let spawned = async {
                // Before anything is waited for: a caller that cancels the spawn drops the name, perhaps before
                // capnp reports that the promise is dropped.
                let place = self.service.reserve(name?)?;
                let maker = place.clone();
                let make = async move |target| maker.make(target, limits, began).await;
                let keep = self.on_workers(target, (limits.timeout, began), make).await?;
                keep()
            };
            write_done(spawned.await, results.get());
            Ok(())
        })
        .await
    }

    async fn instances(
        self: Rc<Self>,
        _: session::InstancesParams,
        mut results: session::InstancesResults,
    ) -> Result<(), capnp::Error> {
        let held = self.service.instances();
        let mut list = results.get().init_instances(held.len() as u32);
        for (index, (name, module)) in held.iter().enumerate() {
            let mut to = list.reborrow().get(index as u32);
            to.set_name(name.as_str());
            to.set_module(module.as_str());
        }
        Ok(())
    }

    async fn drop(
        self: Rc<Self>,
        params: session::DropParams,
        mut results: session::DropResults,
    ) -> Result<(), capnp::Error> {
        let name = params.get()?.get_name()?.to_str().unwrap_or_default().parse::<Name>();
        write_done(name.and_then(|name| self.service.drop_instance(&name)), results.get());
        Ok(())
    }

    async fn ping(
        self: Rc<Self>,
        _: session::PingParams,
        _: session::PingResults,
    ) -> Result<(), capnp::Error> {
        Ok(())
    }

    async fn goodbye(
        self: Rc<Self>,
        params: session::GoodbyeParams,
        _: session::GoodbyeResults,
    ) -> Result<(), capnp::Error> {
        (self.goodbye)(wire::error::reason(params.get()?.get_reason())?);
        Ok(())
    }
}

fn write_done(done: Result<()>, mut to: done::Builder<'_>) {
    match done {
        Ok(()) => to.set_ok(()),
        Err(error) => wire::error::write(&error, to.init_error()),
    }
}
