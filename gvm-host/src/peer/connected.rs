//! A connected node, for as long as it is.
//!
//! In: what meeting gave each side of the other. Out: the other's capabilities, how its connection ends and
//! why, an orderly end of one's own. Must not know: how the two met (`door.rs`), what is called.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gvm_wire::node_capnp::session;

use super::bulk::Bulk;
use super::calls::Calls;
use super::service::Service;
use super::term::{End, Term};
use crate::base::id::NodeInfo;
use crate::call::rights::SessionRights;
use crate::wire::rpc::Connection;

/// Why a connection ended that neither side meant to end.
pub const LOST: &str = "connection lost";

/// A connected node. Belongs to the RPC thread.
pub struct Peer {
    pub info: NodeInfo,
    pub session: session::Client,
    pub calls: Calls,
    /// What this node may do there.
    pub grant: SessionRights,
    /// What the peer holds here.
    pub(super) given: Given,
    pub bulk: Rc<Bulk>,
    pub(super) connection: RefCell<Option<Connection>>,
    pub(super) farewell: Rc<Farewell>,
}

/// What a peer holds of this node.
pub(super) struct Given {
    pub(super) term: Term,
    pub(super) service: Arc<dyn Service>,
    pub(super) lasts: Option<Duration>,
}

type Hear = Box<dyn FnOnce(String)>;

/// How the other side leaves.
#[derive(Default)]
pub(super) struct Farewell {
    /// The last word of either side.
    said: RefCell<Option<String>>,
    /// Told of its goodbye, before that is answered.
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
    /// Has `hear` told when the other side says goodbye, before it is answered: once its own request to
    /// leave is done, this side knows.
    pub fn on_goodbye(&self, hear: impl FnOnce(String) + 'static) {
        self.farewell.hear.replace(Some(Box::new(hear)));
    }

    /// Waits until the connection has ended; says why.
    pub fn closed(&self) -> impl Future<Output = String> + use<> {
        let closed = self.connection.borrow().as_ref().map(Connection::closed);
        let farewell = self.farewell.clone();
        async move {
            if let Some(closed) = closed {
                closed.await;
            }
            farewell.said.borrow().clone().unwrap_or_else(|| LOST.to_owned())
        }
    }

    /// Ends what the peer holds here: its calls stop and are told why, its instances are freed. The
    /// connection stands until [`Peer::leave`].
    pub fn end(&self, why: End) {
        self.given.term.end(why);
        self.given.service.clear();
    }

    /// How long the peer's session here lasts, from its beginning.
    pub fn lasts(&self) -> Option<Duration> {
        self.given.lasts
    }

    /// Says goodbye and ends the connection in order, within two seconds.
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
