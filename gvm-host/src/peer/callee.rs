//! Runs the calls of one session, on whichever thread they arrive.
//!
//! In: calls from the other side. Out: their outcomes, and the output that was not sent before. A call ends when its
//! future is dropped or the session ends. Must not know: the connection on which a call arrived. `Send + Sync`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle as Workers;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::port::{Lost, Port};
use super::service::{Run, Service, Started};
use super::term::{Runs, Term};
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::limits;
use crate::call::stdio::Stdio;
use crate::call::streams::{Input, Output};
use crate::call::{Call, Chunk, ModuleRef, Outcome, Target};
use crate::wire::gate::{Gate, Pass};
use crate::wire::rpc::said;

/// What runs the calls of one session.
pub struct Callee {
    /// Runs the peer's calls, and holds its live instances.
    pub service: Arc<dyn Service>,
    /// Ends with the session.
    pub term: Term,
    pub workers: Workers,
    /// Receives the output of the peer's calls and supplies their input.
    pub streams: Port,
    pub gate: Gate,
    /// Limits the channels of the session.
    pub channels: Gate,
    /// Limits the bytes of large arguments that arrive at the same time.
    pub arriving: Gate,
    /// Limits the bytes of large results that wait to be sent.
    pub kept: Gate,
    /// Cancelled when the session is gone, with its connection.
    pub gone: CancellationToken,
}

/// A call that may run: it counts until this is dropped.
pub struct Entered {
    _runs: Runs,
    _pass: Pass,
}

/// An outcome, changed on the thread where the call ran, and the output that goes with it.
pub type Ran<T> = (T, Vec<Chunk>);

/// A call that was polled once.
pub enum Begun<T> {
    Done(Ran<T>),
    /// It runs on the workers. Dropping the future stops the guest.
    Runs(Pin<Box<dyn Future<Output = Ran<T>> + Send>>),
}

impl Callee {
    /// Begins a call: checks the session and the rights, and lowers the limits.
    ///
    /// # Errors
    /// `NOT_PERMITTED`, `NODE_DOWN`, `OVERLOADED`.
    pub fn enter(&self, call: &mut Call) -> Result<Entered> {
        let entered = Entered { _runs: self.term.begin()?, _pass: self.gate.enter("calls of one session")? };
        self.may_enter(&mut call.target)?;
        call.limits = limits::of_peers().narrow(call.limits);
        Ok(entered)
    }

    /// Refuses a call that the peer has no right to make, before its large parts cross, and finds out where its module comes
    /// from.
    ///
    /// # Errors
    /// `NOT_PERMITTED`.
    pub fn may_enter(&self, target: &mut Target) -> Result<()> {
        self.service.place(target)?;
        match &target.module {
            // The rights apply to its module, which is known only where the instance is found.
            ModuleRef::Instance(_) => Ok(()),
            module => self.service.rights().enter(module.name(), target.function.as_deref()),
        }
    }

    /// Begins a complete call. A function that is usually fast is polled once on this thread, which saves two hops to
    /// other threads; one that waits or reaches its epoch tick then moves to the workers. `then` changes the outcome
    /// where the call ran.
    pub fn begin<T: Send + 'static>(
        self: &Arc<Callee>,
        call: Call,
        has_input: bool,
        then: fn(Outcome) -> T,
    ) -> Begun<T> {
        let (stdio, pipes) = self.stdio(&call, has_input);
        let id = call.id;
        let Started { mut run, is_fast } = self.service.run(call, stdio);
        if is_fast {
            // A run that is not ready gets its waker when the workers poll it.
            let mut nobody = Context::from_waker(std::task::Waker::noop());
            // Timers and blocking tasks use the runtime that is current at their first poll.
            let _entered = self.workers.enter();
            let polled = catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(&mut nobody)));
            match polled {
                Ok(Poll::Ready(outcome)) => return Begun::Done((then(outcome), pipes.0.take())),
                Ok(Poll::Pending) => {}
                Err(panic) => {
                    let outcome = Outcome::failed(failed_task(said(&*panic)));
                    return Begun::Done((then(outcome), pipes.0.take()));
                }
            }
        }
        Begun::Runs(self.clone().attend(run, id, pipes, then))
    }

    /// Begins a call that is completed first, by work that may take long.
    pub fn begin_with<T: Send + 'static>(
        self: &Arc<Callee>,
        call: Call,
        has_input: bool,
        complete: impl FnOnce(Call) -> Result<Call> + Send + 'static,
        then: fn(Outcome) -> T,
    ) -> Begun<T> {
        let (stdio, pipes) = self.stdio(&call, has_input);
        let (id, service) = (call.id, self.service.clone());
        let run: Run = Box::pin(async move {
            match complete(call) {
                Ok(call) => service.run(call, stdio).run.await,
                Err(error) => Outcome::failed(error.with_effect(Effect::NotStarted)),
            }
        });
        Begun::Runs(self.clone().attend(run, id, pipes, then))
    }

    fn stdio(&self, call: &Call, has_input: bool) -> (Stdio, Pipes) {
        let all = self.service.limits().narrow(call.limits);
        let stdio = Stdio { input: has_input.then(Input::default), ..Stdio::new(&all) };
        let pipes = (stdio.output.clone(), stdio.input.clone());
        (stdio, pipes)
    }

    /// Runs a call on the workers and serves its streams meanwhile. The end of the session stops the guest within an
    /// epoch tick.
    fn attend<T: Send + 'static>(
        self: Arc<Callee>,
        run: Run,
        id: Uuid,
        pipes: Pipes,
        then: fn(Outcome) -> T,
    ) -> Pin<Box<dyn Future<Output = Ran<T>> + Send>> {
        Box::pin(async move {
            // To split a large result takes long, so the workers do it.
            let run = async move { then(run.await) };
            let ran = self.term.within(self.serve_streams(run, id, &pipes)).await;
            let result = ran.and_then(|ran| ran).unwrap_or_else(|error| then(Outcome::failed(error)));
            (result, pipes.0.take())
        })
    }

    async fn serve_streams<T: Send + 'static>(
        &self,
        run: impl Future<Output = T> + Send + 'static,
        id: Uuid,
        (output, input): &Pipes,
    ) -> Result<T> {
        let mut run = AbortOnDropHandle::new(self.workers.spawn(run));
        let wants = async || match input {
            Some(input) => input.wanted().await,
            None => std::future::pending().await,
        };
        let mut asking = None;
        loop {
            tokio::select! {
                ended = &mut run => return ended.map_err(failed_task),
                chunks = output.next() => {
                    for chunk in chunks {
                        // The guest gets an error for this stream and decides itself what to do.
                        let stream = chunk.stream;
                        match self.streams.output(id, chunk).await {
                            Ok(None) => {}
                            Ok(Some(broken)) => output.fail(stream, broken),
                            Err(Lost) => return Err(lost_output()),
                        }
                    }
                }
                () = wants(), if asking.is_none() => asking = Some(Box::pin(self.streams.input(id))),
                data = async { match asking.as_mut() {
                    Some(asking) => asking.await,
                    None => std::future::pending().await,
                }} => {
                    asking = None;
                    if let Some(input) = input {
                        match data {
                            Ok(data) => input.supply(&data),
                            Err(broken) => input.fail(broken),
                        }
                    }
                }
            }
        }
    }
}

type Pipes = (Output, Option<Input>);

fn lost_output() -> Error {
    Error::new(Code::NodeDown, "the connection was lost before the output of the call had crossed")
        .with_effect(Effect::Unknown)
}

fn failed_task(why: impl std::fmt::Display) -> Error {
    Error::internal(format!("the task of the call failed: {why}")).with_effect(Effect::Unknown)
}
