//! The session capability: what a connected node can do here.
//!
//! In: calls from the other side. Out: their outcomes, and their output while it is written. A call lives as
//! long as its promise: when that is dropped (call cancelled, or connection lost), the guest stops. Must not
//! know: how the peer was accepted.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gvm_wire::node_capnp::{done, session};
use tokio_util::task::AbortOnDropHandle;

use super::bulk::Bulk;
use super::callee::{Begun, Callee};
use super::tickets::{Opens, Tickets};
use crate::base::error::{Effect, Error, Result};
use crate::base::id::Name;
use crate::base::limits::{self, Limits};
use crate::call::deadline::in_time;
use crate::call::{Call, Chunk, Outcome, Target};
use crate::wire;
use crate::wire::call::Apart;
use crate::wire::large::{Blob, Large};
use crate::wire::rpc::contained;

/// The session of one peer. Belongs to the node's thread.
pub struct SessionServer {
    pub callee: Arc<Callee>,
    /// The values that are too large for calls and outcomes.
    pub bulk: Rc<Bulk>,
    pub tickets: Rc<Tickets>,
    /// Called with the reason when the peer says goodbye.
    pub goodbye: Box<dyn Fn(String)>,
}

impl Drop for SessionServer {
    fn drop(&mut self) {
        self.callee.gone.cancel();
    }
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
        let _entered = match self.callee.enter(&mut call) {
            Ok(entered) => entered,
            Err(error) => return refused(error),
        };
        if !apart.is_empty() {
            let completed = self.callee.term.within(self.bulk.complete(&mut call, apart)).await;
            if let Err(error) = completed.and_then(|completed| completed) {
                return refused(error.with_effect(Effect::NotStarted));
            }
        }
        let (mut outcome, output) = match self.callee.begin(call, has_input, |outcome| outcome) {
            Begun::Done(ran) => ran,
            Begun::Runs(run) => run.await,
        };
        let large = self.bulk.keep(&mut outcome).await;
        (outcome, large, output)
    }

    /// Completes a target, then runs work on it that may take long on the workers. Dropping the future, or the end
    /// of the session, stops the work.
    async fn on_workers<T: Send + 'static, W: Future<Output = Result<T>> + Send + 'static>(
        &self,
        read: Result<(Target, Option<Blob>)>,
        (timeout, began): (Option<Duration>, Instant),
        work: impl FnOnce(Target) -> W,
    ) -> Result<T> {
        let _runs = self.callee.term.begin()?;
        let _pass = self.callee.gate.enter("calls of one session")?;
        let done = async {
            let target = in_time(timeout, Some(began), Effect::NotStarted, self.whole(read)).await?;
            let done = AbortOnDropHandle::new(self.callee.workers.spawn(work(target))).await;
            done.unwrap_or_else(|error| Err(Error::internal(error.to_string())))
        };
        self.callee.term.within(done).await?
    }

    /// Returns a target with the module bytes that crossed separately.
    async fn whole(&self, read: Result<(Target, Option<Blob>)>) -> Result<Target> {
        let (mut target, apart) = read?;
        self.callee.may_enter(&mut target)?;
        self.bulk.complete_module(&mut target, apart).await?;
        Ok(target)
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
            let service = self.callee.service.clone();
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
                let place = self.callee.service.reserve(name?)?;
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
        let held = self.callee.service.instances();
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
        write_done(name.and_then(|name| self.callee.service.drop_instance(&name)), results.get());
        Ok(())
    }

    async fn ping(
        self: Rc<Self>,
        _: session::PingParams,
        _: session::PingResults,
    ) -> Result<(), capnp::Error> {
        Ok(())
    }

    async fn channel(
        self: Rc<Self>,
        _: session::ChannelParams,
        mut results: session::ChannelResults,
    ) -> Result<(), capnp::Error> {
        let ticket = self.tickets.issue(Opens::Channel(Arc::downgrade(&self.callee)));
        let ticket = ticket.map_err(|error| capnp::Error::failed(error.to_string()))?;
        results.get().set_ticket(&ticket);
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
