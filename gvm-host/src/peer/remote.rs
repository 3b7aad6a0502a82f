//! Runs a call on another node.
//!
//! In: a call and its pipes. Out: its outcome, after its output has been pushed. Dropping the future cancels
//! the call: capnp tells the other side, and its guest stops. Must not know: how the other side runs the
//! call.

use std::time::Duration;

use gvm_wire::node_capnp::{described, done};

use super::answers::{cut_off, lost, push_output};
use super::connected::Peer;
use crate::base::device::NodeName;
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::id::Name;
use crate::base::limits::Limits;
use crate::base::value::{FuncType, Value};
use crate::call::streams::{Input, Output};
use crate::call::{Call, Outcome, Target};
use crate::wire;
use crate::wire::large::Large;

/// Runs a call on the peer.
pub async fn call(peer: &Peer, mut call: Call, output: Output, input: Option<Input>) -> Outcome {
    let node = &peer.info.name;
    let (apart, lent) = match peer.bulk.lend(&mut call).await {
        Ok(lent) => lent,
        Err(error) => return Outcome::failed(error),
    };
    let mut request = peer.session.run_request();
    wire::call::write(&call, &apart, input.is_some(), request.get().init_call());
    let open = peer.calls.open(call.id, output.clone(), input);
    let answered = request.send().promise.await;
    drop((open, lent));
    let read = async || -> Result<Outcome> {
        let response = answered.map_err(|error| cut_off(node, error))?;
        let outcome = response.get().and_then(|results| results.get_outcome());
        let (mut outcome, large, rest) =
            wire::call::read_outcome(outcome.map_err(|error| cut_off(node, error))?)
                .map_err(|error| error.with_effect(Effect::Unknown))?;
        push_output(&output, rest).await?;
        if let Some(large) = large {
            outcome.result = Ok(Some(result(peer, large).await?));
        }
        Ok(outcome)
    };
    read().await.unwrap_or_else(Outcome::failed)
}

/// Fetches the large result of a call that has run there.
async fn result(peer: &Peer, large: Large) -> Result<Value> {
    let fetched = tokio::select! {
        fetched = peer.bulk.result(large) => fetched,
        why = peer.closed() => {
            let node = &peer.info.name;
            Err(Error::new(Code::NodeDown, format!("node `{node}` left before its result arrived: {why}")))
        }
    };
    fetched.map_err(|error| error.with_effect(Effect::RanAndFailed))
}

/// Returns the signature of a function there, within the given time; none for a main.
///
/// # Errors
/// The errors of preparing the call there; `NODE_DOWN`, `TIMEOUT`.
pub async fn describe(peer: &Peer, target: &Target, most: Duration) -> Result<Option<FuncType>> {
    let node = &peer.info.name;
    let gone = |error| lost(node, error).with_effect(Effect::NotStarted);
    let (apart, _lent) = peer.bulk.lend_module(target);
    let mut request = peer.session.describe_request();
    wire::call::write_target(target, apart, request.get().init_target());
    request.get().set_deadline(wire::call::nanos(Some(most)));
    let response = request.send().promise.await.map_err(gone)?;
    let unknown = |_| wire::error::unknown("an answer");
    match response.get().map_err(gone)?.which().map_err(unknown)? {
        described::Ok(ok) => match ok.has_type() {
            true => wire::value::read_func(ok.get_type().map_err(gone)?).map(Some),
            false => Ok(None),
        },
        described::Error(error) => Err(wire::error::read(error.map_err(gone)?)),
    }
}

/// Creates a live instance of a module there, with the given name.
///
/// # Errors
/// The errors of preparing a call there; `LIMIT_EXCEEDED`, `NODE_DOWN`, `TIMEOUT`.
pub async fn spawn(peer: &Peer, name: &Name, target: &Target, limits: Limits) -> Result<()> {
    let node = &peer.info.name;
    let (apart, _lent) = peer.bulk.lend_module(target);
    let mut request = peer.session.spawn_request();
    request.get().set_name(name.as_str());
    wire::call::write_target(target, apart, request.get().init_target());
    wire::call::write_limits(limits, request.get().init_limits());
    request.get().set_deadline(wire::call::nanos(limits.timeout));
    let answer = request.send().promise.await;
    read_done(node, answer.as_ref().map_err(|error| lost(node, error.clone()))?.get())
}

/// Drops a live instance there.
///
/// # Errors
/// `INSTANCE_NOT_FOUND`, `NODE_DOWN`.
pub async fn drop_instance(peer: &Peer, name: &Name) -> Result<()> {
    let node = &peer.info.name;
    let mut request = peer.session.drop_request();
    request.get().set_name(name.as_str());
    let answer = request.send().promise.await;
    read_done(node, answer.as_ref().map_err(|error| lost(node, error.clone()))?.get())
}

fn read_done(node: &NodeName, answer: Result<done::Reader<'_>, capnp::Error>) -> Result<()> {
    let gone = |error| lost(node, error);
    let unknown = |_| wire::error::unknown("an answer");
    match answer.map_err(gone)?.which().map_err(unknown)? {
        done::Ok(()) => Ok(()),
        done::Error(error) => Err(wire::error::read(error.map_err(gone)?)),
    }
}
