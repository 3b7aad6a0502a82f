//! What the answers of a peer have in common, whichever connection they take.
//!
//! In: answers and failures. Out: tickets, output for the caller, coded errors. Must not know: what was asked.

use gvm_wire::node_capnp::session;

use crate::base::device::NodeName;
use crate::base::error::{Code, Effect, Error, Result};
use crate::call::Chunk;
use crate::call::streams::{Closed, Output};
use crate::wire;
use crate::wire::bulk::Ticket;

/// The error of a lost connection: the request may have had effects.
pub fn lost(node: &NodeName, error: capnp::Error) -> Error {
    wire::error::from_capnp(error, &format!("node `{node}`"), Code::NodeDown).with_effect(Effect::Unknown)
}

/// The same error while a call ran; its context says so to a person.
pub fn cut_off(node: &NodeName, error: capnp::Error) -> Error {
    lost(node, error).with_context("  it is unknown whether the call ran to its end")
}

/// Gives the output that came with an outcome to the caller.
///
/// # Errors
/// `LIMIT_EXCEEDED` if it is more than the call may write.
pub async fn push_output(output: &Output, rest: Vec<Chunk>) -> Result<()> {
    for chunk in rest {
        match output.push(chunk).await {
            // The reader of this stream knows that its output is lost; the other stream continues.
            Ok(()) | Err(Closed::Failed(_)) => {}
            Err(Closed::Limit(limit)) => {
                let error = Error::new(Code::LimitExceeded, limit.to_string());
                return Err(error.with_effect(Effect::RanAndFailed));
            }
        }
    }
    Ok(())
}

/// Requests a ticket for a channel of this session with `node`.
///
/// # Errors
/// `NODE_DOWN`, `VERSION_MISMATCH`.
pub async fn channel_ticket(session: &session::Client, node: &NodeName) -> Result<Ticket> {
    let answer = session.channel_request().send().promise.await;
    let answer = answer.map_err(|error| lost(node, error))?;
    read_ticket(node, answer.get().and_then(|answer| answer.get_ticket()))
}

/// Reads a ticket of `node`.
///
/// # Errors
/// `NODE_DOWN`, `VERSION_MISMATCH`.
pub fn read_ticket(node: &NodeName, ticket: capnp::Result<capnp::data::Reader<'_>>) -> Result<Ticket> {
    Ticket::try_from(ticket.map_err(|error| lost(node, error))?).map_err(|_| {
        Error::new(Code::VersionMismatch, format!("node `{node}` did not send a valid ticket"))
            .with_help(wire::error::SAME_RELEASE)
    })
}
