//! What a connected node may do here: the session capability.
//!
//! In: calls from the other side. Out: their outcomes, their output as it is written. The call is the
//! promise: when it is dropped (taken back, or its connection lost), the guest stops. Must not know:
//! how the peer was accepted.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use gvm_wire::node_capnp::{done, session, streams};
use tokio::runtime::Handle as Workers;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::bulk::Bulk;
use super::term::Term;
use crate::call::{Broken, Call, Chunk, ModuleRef, Outcome, Target};
use crate::engine::streams::{Input, Output};
use crate::error::{Effect, Error, Result};
use crate::id::Name;
use crate::imports::Stdio;
use crate::limits::{self, Limits};
use crate::node::runner::{Caller, Prepared, Runner, in_time, peer_limits};
use crate::wire;
use crate::wire::call::Apart;
use crate::wire::gate::Gate;
use crate::wire::large::{Blob, Large};
use crate::wire::rpc::contained;

/// One peer's session.
pub struct SessionServer {
    pub runner: Runner,
    /// What the peer may call, and has brought to life here, which goes with the session.
    pub caller: Caller,
    /// How long all of this lasts.
    pub term: Term,
    pub workers: Workers,
    /// Where the peer takes the output of its calls and gives their input.
    pub streams: streams::Client,
    /// What is too large to stand in calls and outcomes.
    pub bulk: Rc<Bulk>,
    pub gate: Gate,
    /// Told when the peer says goodbye, with its reason.
    pub goodbye: Box<dyn Fn(String)>,
}

type Run = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl SessionServer {
    /// Runs a call and hands over what it writes. Returns the outcome, what of its result crosses on its
    /// own, and the output not yet handed over, which goes with it.
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
        call.limits = peer_limits().narrow(call.limits);
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

    /// The same of a call that is whole.
    async fn run(&self, call: Call, has_input: bool) -> (Outcome, Vec<Chunk>) {
        let id = call.id;
        let all = self.runner.limits().narrow(call.limits);
        let stdio = Stdio { input: has_input.then(Input::default), ..Stdio::new(&all) };
        let pipes = (stdio.output.clone(), stdio.input.clone());
        let outcome = match self.runner.prepare_now(&self.caller.rights, &call.target, &all) {
            Some(Err(error)) => Outcome::failed(error),
            Some(Ok(prepared)) if prepared.is_fast() => {
                self.run_here_first(prepared, call, stdio, id, &pipes).await
            }
            Some(Ok(prepared)) => {
                let runner = self.runner.clone();
                let run = Box::pin(async move { runner.run_prepared(prepared, call, stdio).await });
                self.run_on_workers(run, id, &pipes).await
            }
            None => {
                let (runner, caller) = (self.runner.clone(), self.caller.clone());
                let run = Box::pin(async move { runner.run(&caller, call, stdio).await });
                self.run_on_workers(run, id, &pipes).await
            }
        };
        (outcome, pipes.0.take())
    }

    /// Polls the run once on this thread, which saves two thread hops; what waits or runs into its
    /// epoch tick moves to the workers.
    async fn run_here_first(
        &self,
        prepared: Prepared,
        call: Call,
        stdio: Stdio,
        id: Uuid,
        pipes: &(Output, Option<Input>),
    ) -> Outcome {
        let runner = self.runner.clone();
        let mut run: Run = Box::pin(async move { runner.run_prepared(prepared, call, stdio).await });
        let first = std::future::poll_fn(|cx: &mut Context<'_>| {
            // Timers and blocking tasks bind to the runtime that is current at their first poll.
            let _entered = self.workers.enter();
            Poll::Ready(run.as_mut().poll(cx))
        })
        .await;
        match first {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => self.run_on_workers(run, id, pipes).await,
        }
    }

    /// Runs away from this thread; the end of the session stops it, which the guest feels within a tick.
    async fn run_on_workers(&self, run: Run, id: Uuid, pipes: &(Output, Option<Input>)) -> Outcome {
        let ran = self.term.within(self.attend(run, id, pipes)).await;
        ran.unwrap_or_else(Outcome::failed)
    }

    /// Has the call run on the workers and serves its streams meanwhile.
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
                    let error = Error::internal(format!("the run ended badly: {error}"));
                    Outcome::failed(error.with_effect(Effect::Unknown))
                }),
                chunks = output.next() => {
                    for chunk in chunks {
                        // The guest hears that nobody takes this output; what it does then is its own.
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

    /// Does work on a target that may take long away from this thread, once the target is whole. Dropping the
    /// future, or the end of the session, stops it.
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

    /// A target with the bytes that it left out.
    async fn whole(&self, read: Result<(Target, Option<Blob>)>) -> Result<Target> {
        let (mut target, apart) = read?;
        self.may_enter(&target)?;
        self.bulk.complete_module(&mut target, apart).await?;
        Ok(target)
    }

    /// Refuses what may not be called at all before anything more of it crosses.
    fn may_enter(&self, target: &Target) -> Result<()> {
        match &target.module {
            // By its module's rights, which the instance knows.
            ModuleRef::Instance(_) => Ok(()),
            module => self.caller.rights.enter(module.name(), target.function.as_deref()),
        }
    }

    /// Hands over what the guest wrote; says why the other side takes no more of that stream.
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
            let limits = peer_limits().narrow(Limits { timeout, ..Limits::default() });
            let target = wire::call::read_target(asked.get_target()?);
            let (runner, caller) = (self.runner.clone(), self.caller.clone());
            let describe = async move |target| runner.describe(&caller, &target, limits, began).await;
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
            let limits = peer_limits().narrow(limits);
            let target = wire::call::read_target(asked.get_target()?);
            let (runner, caller) = (self.runner.clone(), self.caller.clone());
            let make = async move |target| runner.make(&caller, &target, limits, began).await;
            let spawned = async {
                // Before anything is waited for: who takes the spawn back drops the name, perhaps sooner than
                // capnp says that the promise is dropped.
                let place = self.caller.held.reserve(name?)?;
                place.fill(self.on_workers(target, (limits.timeout, began), make).await?)
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
        let held = self.caller.held.list();
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
        write_done(name.and_then(|name| self.caller.held.remove(&name)), results.get());
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
