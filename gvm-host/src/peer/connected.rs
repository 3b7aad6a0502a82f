//! A connected node, from the handshake to the end of its connection.
//!
//! In: the sessions that the handshake exchanged. Out: the other side's capabilities, when and why its
//! connection ends, an orderly end from this side. Must not know: how the nodes connected (`handshake.rs`),
//! what is called.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gvm_wire::node_capnp::session;

use super::bulk::Bulk;
use super::calls::Calls;
use super::line::Line;
use super::service::Service;
use super::term::{End, Term};
use crate::base::node::NodeInfo;
use crate::call::rights::SessionRights;
use crate::wire::rpc::Connection;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Neither side ended it on purpose.
    Lost,
    /// One side said goodbye, with this reason.
    Goodbye(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ended::Lost => "connection lost",
            Ended::Goodbye(reason) => reason,
        })
    }
}

/// A connected node. Belongs to the RPC thread.
pub struct Peer {
    pub info: NodeInfo,
    pub session: session::Client,
    pub calls: Calls,
    /// The same connection for callers on other threads.
    pub line: Arc<Line>,
    /// The rights of this node there.
    pub grant: SessionRights,
    /// The peer's session here.
    pub(super) given: Given,
    pub bulk: Rc<Bulk>,
    pub(super) connection: RefCell<Option<Connection>>,
    pub(super) farewell: Rc<Farewell>,
}

/// The session that this node has given to a peer.
pub(super) struct Given {
    pub(super) term: Term,
    pub(super) service: Arc<dyn Service>,
    pub(super) lasts: Option<Duration>,
}

type Hear = Box<dyn FnOnce(String)>;

/// How the connection ends.
#[derive(Default)]
pub(super) struct Farewell {
    /// The reason of the side that said goodbye first.
    said: RefCell<Option<String>>,
    /// Called when the other side says goodbye, before the answer.
    hear: RefCell<Option<Hear>>,
}

impl Farewell {
    pub(super) fn heard(&self, reason: String) {
        self.said.borrow_mut().get_or_insert(reason.clone());
        let hear = self.hear.borrow_mut().take();
        if let Some(hear) = hear {
            hear(reason);
        }
    }
}

impl Peer {
    /// Calls `hear` when the other side says goodbye, before the answer. So this side knows by the time the
    /// other side's request completes.
    pub fn on_goodbye(&self, hear: impl FnOnce(String) + 'static) {
        self.farewell.hear.replace(Some(Box::new(hear)));
    }

    /// Waits until the connection has ended, and returns why.
    pub fn closed(&self) -> impl Future<Output = Ended> + use<> {
        let closed = self.connection.borrow().as_ref().map(Connection::closed);
        let farewell = self.farewell.clone();
        async move {
            if let Some(closed) = closed {
                closed.await;
            }
            farewell.said.borrow().clone().map_or(Ended::Lost, Ended::Goodbye)
        }
    }

    /// Ends the peer's session here: its calls stop with an error that says why, and its instances are freed.
    /// The connection stays open until [`Peer::leave`].
    pub fn end(&self, why: End) {
        self.given.term.end(why);
        self.given.service.clear();
    }

    /// Returns how long the peer's session here lasts, from its beginning; none if it has no time limit.
    pub fn lasts(&self) -> Option<Duration> {
        self.given.lasts
    }

    /// Closes the connection to a peer that does not answer. It counts as lost.
    pub fn give_up(&self) {
        let connection = self.connection.borrow_mut().take();
        drop(connection);
    }

    /// Says goodbye, which may take a second, and shuts the connection down in order
    /// ([`Connection::finish`]).
    pub async fn leave(&self, reason: &str) {
        self.farewell.said.borrow_mut().get_or_insert_with(|| reason.to_owned());
        let mut request = self.session.goodbye_request();
        request.get().set_reason(reason);
        let _ = tokio::time::timeout(Duration::from_secs(1), request.send().promise).await;
        let connection = self.connection.borrow_mut().take();
        if let Some(connection) = connection {
            connection.finish().await;
        }
    }
}
