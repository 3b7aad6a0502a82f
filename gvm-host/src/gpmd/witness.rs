//! Tickets that prove a node's identity, from a node's side.
//!
//! In: a node to connect to, or the ticket of a node that connects. Out: a ticket, or the node that it
//! belongs to. Must not know: connections between nodes, the accept policy.

use std::rc::Rc;

use super::link::{Shared, answered, failed};
use super::route::not_running;
use crate::base::error::{Code, Error, Result};
use crate::base::id::{NodeInfo, Secret};
use crate::wire;
use crate::wire::hello;
use crate::wire::schema::gpmd_capnp::{looked_up, registration};

/// Asks gpmd to issue and check tickets. Works as long as the node's link lives. Cheap to clone; belongs to
/// the link's thread.
#[derive(Clone)]
pub struct Witness(Rc<Shared>);

impl Witness {
    pub(super) fn of(link: Rc<Shared>) -> Witness {
        Witness(link)
    }

    fn registration(&self) -> Result<registration::Client> {
        match &*self.0.session.borrow() {
            Some(session) => Ok(session.registration.clone()),
            None => Err(not_running()),
        }
    }

    /// Returns a ticket that proves this node's identity to `to`.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn introduce(&self, to: &NodeInfo) -> Result<Secret> {
        let mut request = self.registration()?.introduce_request();
        hello::write_node(to, request.get().init_to());
        let answer = answered(request.send().promise).await?;
        let ticket = answer.get().and_then(|answer| answer.get_ticket()).map_err(failed)?;
        Secret::read(ticket).ok_or_else(|| {
            Error::new(Code::VersionMismatch, "gpmd does not issue tickets")
                .with_help("install the same release of gpmd and the nodes, then restart gpmd")
        })
    }

    /// Returns the running node that this ticket belongs to.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND` if gpmd did not issue it, or issued it for another node; `GPMD_NOT_RUNNING` while
    /// gpmd is away.
    pub async fn identify(&self, ticket: Secret) -> Result<NodeInfo> {
        let mut request = self.registration()?.identify_request();
        request.get().set_ticket(ticket.bytes());
        let answer = answered(request.send().promise).await?;
        looked_up(answer.get().and_then(|answer| answer.which().map_err(Into::into)).map_err(failed)?)
    }

    /// Returns whether gpmd is connected.
    pub fn is_up(&self) -> bool {
        self.0.session.borrow().is_some()
    }
}

/// Reads the node, or the error, in an answer of gpmd.
pub(super) fn looked_up(answer: looked_up::WhichReader<'_>) -> Result<NodeInfo> {
    match answer {
        looked_up::Node(node) => hello::read_node(node.map_err(failed)?),
        looked_up::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
    }
}
