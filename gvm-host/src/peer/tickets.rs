//! Tickets for further connections of a session.
//!
//! In: requests of a session for a ticket; connections that present one. Out: a connection that is served on the threads
//! for its kind. A ticket is valid once and for a short time. Must not know: what crosses the connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::callee::Callee;
use super::serving;
use super::shelf::Shelf;
use crate::base::error::{Code, Error, Result};
use crate::base::threads;
use crate::wire::bulk::{self, Ticket};
use crate::wire::transport::Transport;

/// How long a ticket is valid.
const TICKET: Duration = Duration::from_secs(10);

/// The most unused tickets over all sessions of a node.
const TICKETS: usize = 256;

/// What a ticket opens.
pub enum Opens {
    /// The large values that a session holds.
    Bulk(Weak<Shelf>),
    /// The calls of a session.
    Channel(Weak<Callee>),
}

/// The tickets that a node has issued and that are still unused. Belongs to the RPC thread.
#[derive(Default)]
pub struct Tickets(RefCell<HashMap<Ticket, (Opens, Instant)>>);

impl Tickets {
    /// Issues a ticket.
    ///
    /// # Errors
    /// `OVERLOADED` if too many tickets are unused.
    pub fn issue(&self, opens: Opens) -> Result<Ticket> {
        let mut tickets = self.0.borrow_mut();
        tickets.retain(|_, (_, since)| since.elapsed() < TICKET);
        if tickets.len() >= TICKETS {
            return Err(Error::new(Code::Overloaded, "too many connections are opened at once"));
        }
        let ticket = *Uuid::new_v4().as_bytes();
        tickets.insert(ticket, (opens, Instant::now()));
        Ok(ticket)
    }

    /// Returns what a ticket is for; nothing if it is invalid or has expired.
    fn take(&self, ticket: Ticket) -> Option<Opens> {
        let (opens, since) = self.0.borrow_mut().remove(&ticket)?;
        (since.elapsed() < TICKET).then_some(opens)
    }

    /// Serves large values over a connection that presented a ticket; closes it if the ticket is not for them.
    pub fn take_bulk(&self, ticket: Ticket, mut transport: Transport) {
        let Some(Opens::Bulk(shelf)) = self.take(ticket) else { return };
        let (Some(shelf), Ok(thread)) = (shelf.upgrade(), threads::bulk()) else { return };
        // The task ends with the connection, or with the session.
        thread.spawn(async move {
            let serving = async {
                transport.move_here()?;
                bulk::serve(transport, &*shelf).await
            };
            if let Some(Err(error)) = shelf.closed.run_until_cancelled(serving).await {
                tracing::debug!("a bulk connection ended: {error}");
            }
        });
    }

    /// Serves calls over a connection that presented a ticket; closes it if the ticket is not for them.
    pub fn take_channel(&self, ticket: Ticket, transport: Transport) {
        let Some(Opens::Channel(callee)) = self.take(ticket) else { return };
        let (Some(callee), Ok(threads)) = (callee.upgrade(), threads::rpc()) else { return };
        // The task ends with the connection, or with the session.
        threads.spawn(async move {
            if let Err(error) = serving::serve(callee, transport).await {
                tracing::debug!("a channel ended: {error}");
            }
        });
    }
}
