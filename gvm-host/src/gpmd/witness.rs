//! gpmd's word for who is who, from a node's side.
//!
//! In: a node that is dialled, or the ticket of one that dials. Out: a ticket, or the node that it is of. It
//! lives as long as the node's link. Must not know: what the nodes are to each other.

use std::rc::Rc;

use super::link::{Shared, answered, failed};
use super::route::not_running;
use crate::base::error::{Code, Error, Result};
use crate::base::id::{NodeInfo, Secret};
use crate::wire;
use crate::wire::hello;
use crate::wire::schema::gpmd_capnp::{looked_up, registration};

/// gpmd's word for who is who among the nodes that are registered. Cheap to clone; belongs to the link's thread.
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

    /// A ticket by which that node learns who dials it.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn introduce(&self, to: &NodeInfo) -> Result<Secret> {
        let mut request = self.registration()?.introduce_request();
        hello::write_node(to, request.get().init_to());
        let answer = answered(request.send().promise).await?;
        let ticket = answer.get().and_then(|answer| answer.get_ticket()).map_err(failed)?;
        Secret::read(ticket).ok_or_else(|| Error::new(Code::VersionMismatch, "gpmd gives no tickets"))
    }

    /// The live node that shows this ticket.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND` where gpmd gave it to none, or for another; `GPMD_NOT_RUNNING` while gpmd is away.
    pub async fn identify(&self, ticket: Secret) -> Result<NodeInfo> {
        let mut request = self.registration()?.identify_request();
        request.get().set_ticket(ticket.bytes());
        let answer = answered(request.send().promise).await?;
        looked_up(answer.get().and_then(|answer| answer.which().map_err(Into::into)).map_err(failed)?)
    }

    /// Whether gpmd is there.
    pub fn is_up(&self) -> bool {
        self.0.session.borrow().is_some()
    }
}

/// gpmd's answer to who somebody is.
pub(super) fn looked_up(answer: looked_up::WhichReader<'_>) -> Result<NodeInfo> {
    match answer {
        looked_up::Node(node) => hello::read_node(node.map_err(failed)?),
        looked_up::Error(error) => Err(wire::error::read(error.map_err(failed)?)),
    }
}
