//! The connections of one socket or port, from being taken to their end.
//!
//! In: a listener, what to offer. Out: conversations, a bounded number of them; who says nothing is cut off.
//! Must not know: what is asked over them (the doors).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::server::State;
use super::stop::Step;
use crate::base::error::Result;
use crate::wire::gate::{Gate, Pass};
use crate::wire::hello::{self, Hello};
use crate::wire::rpc::{Connection, MessageLimits, Offered, Side, overloaded};
use crate::wire::schema::hello_capnp::hello as wire_hello;
use crate::wire::transport::{Listener, Transport};
use crate::wire::watch::Watcher;

/// Connections on one socket or port. Each node takes one; a device runs hundreds of nodes at the most.
const MOST_CONNECTIONS: usize = 1024;

/// Connections over that which are told so; more are closed without a word.
const MOST_TURNED_AWAY: usize = 64;

/// How long a connection may stay without a greeting.
const GREETING: Duration = Duration::from_secs(10);

/// How long one that is turned away has to read so.
const TURNED_AWAY: Duration = Duration::from_secs(1);

/// A door for one connection.
pub type Offer = fn(&Rc<State>, Greeted) -> Offered;

/// What a connection has come to. Clones share it; belongs to one thread.
#[derive(Clone, Default)]
pub struct Greeted(Rc<Cell<bool>>, Rc<RefCell<Option<Watcher>>>);

impl Greeted {
    /// Whether who greets may pass, and how gpmd greets back. From now on the connection may stay.
    ///
    /// # Errors
    /// `AUTH_FAILED`, `VERSION_MISMATCH`.
    pub fn pass(&self, state: &State, greeting: wire_hello::Reader<'_>) -> Result<Hello> {
        hello::read(greeting)?.admit(state.home_id())?;
        self.0.set(true);
        Ok(state.hello())
    }

    /// Its other side can be asked for a sign of life, and is until the guard is dropped.
    pub fn watch<F: Future + 'static>(&self, ask: impl Fn() -> F + 'static) -> Option<AbortOnDropHandle<()>> {
        self.1.borrow().as_ref().map(|watcher| watcher.watch(ask))
    }
}

/// Takes connections until gpmd leaves; ends once the last is closed.
pub async fn accept(listener: Listener, state: Rc<State>, offer: Offer) {
    let places = Gate::new(MOST_CONNECTIONS);
    let turned_away = Gate::new(MOST_TURNED_AWAY);
    let mut connections = JoinSet::new();
    loop {
        let transport = tokio::select! {
            () = state.stop.reach(Step::Asked) => break,
            Some(_) = connections.join_next() => continue,
            transport = listener.accept() => transport,
        };
        match transport {
            Ok(transport) => match (places.enter("connections"), turned_away.enter("connections")) {
                (Ok(place), _) => {
                    connections.spawn_local(hold(transport, state.clone(), offer, place));
                }
                (Err(_), Ok(place)) => {
                    tracing::warn!("too many connections: one was turned away");
                    connections.spawn_local(turn_away(transport, place));
                }
                (Err(_), Err(_)) => {}
            },
            Err(error) => {
                tracing::warn!(%error, "a connection was not taken");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until it ends, or gpmd does.
async fn hold(transport: Transport, state: Rc<State>, offer: Offer, _place: Pass) {
    let greeted = Greeted::default();
    let offered = offer(&state, greeted.clone());
    let connection = Connection::start(transport, Side::Accepted, MessageLimits::CONTROL, Some(offered));
    greeted.1.replace(Some(connection.watcher()));
    let closed = connection.closed();
    tokio::pin!(closed);
    let late = async {
        sleep(GREETING).await;
        if greeted.0.get() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        why = &mut closed => tracing::debug!(?why, "a connection closed"),
        () = late => tracing::debug!("a connection did not greet"),
        () = state.stop.reach(Step::Closes) => {}
    }
    connection.finish().await;
}

async fn turn_away(transport: Transport, _place: Pass) {
    let connection = Connection::start(transport, Side::Accepted, MessageLimits::CONTROL, Some(overloaded()));
    let _ = timeout(TURNED_AWAY, connection.closed()).await;
    connection.finish().await;
}
