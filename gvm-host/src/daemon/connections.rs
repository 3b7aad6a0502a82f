//! The connections of one socket or port, from acceptance to their end.
//!
//! In: a listener, and the capability to offer. Out: a bounded number of connections; those that send no
//! greeting are closed. Must not know: the requests sent over them (the handlers).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::server::State;
use super::stop::Step;
use crate::base::error::Result;
use crate::wire::gate::{Gate, Pass};
use crate::wire::hello::{self, Hello};
use crate::wire::rpc::{Connection, Grip, MessageLimits, Offered, Side, overloaded};
use crate::wire::schema::hello_capnp::hello as wire_hello;
use crate::wire::transport::{Listener, OtherEnd, Transport};

/// The most connections of nodes and devices together. Each node uses one: 10,000 nodes fit. A connection takes some tens of KiB.
const MOST_NODES: usize = 11_000;

/// The most connections of commands together.
const MOST_COMMANDS: usize = 1000;

/// The most connections above these limits that are answered with `OVERLOADED`. More are closed unanswered.
const MOST_REJECTED: usize = 64;

/// The descriptors that gpmd needs itself: listeners, files, pipes of the runtime and of a compiler.
const OWN: usize = 24;

/// How long a connection may stay open without a greeting.
const GREETING: Duration = Duration::from_secs(10);

/// How long a rejected connection may take to read the answer.
const REJECTED: Duration = Duration::from_secs(1);

/// Makes the first capability of a connection, and decides how large its messages may be. The last argument is a secret that
/// only the two ends of the connection know, if there is one.
pub type Offer = fn(&Rc<State>, Greeted, &OtherEnd, Vec<u8>) -> (Offered, MessageLimits);

/// Whose connections a listener accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    NodesAndDevices,
    Commands,
}

/// How many connections there may be. Commands have places of their own, so a person can still ask and stop a gpmd that is full of
/// nodes; all places together fit into the process's limit on open files.
pub struct Places {
    nodes: Gate,
    commands: Gate,
    rejected: Gate,
}

impl Places {
    /// Divides the files that this process may open.
    pub fn new(open_files: usize) -> Places {
        let free = open_files.saturating_sub(OWN);
        let commands = (free / 4).clamp(4, MOST_COMMANDS);
        let rejected = (free / 16).clamp(1, MOST_REJECTED);
        let nodes = free.saturating_sub(commands + rejected).clamp(4, MOST_NODES);
        Places { nodes: Gate::new(nodes), commands: Gate::new(commands), rejected: Gate::new(rejected) }
    }

    fn of(&self, of: Of) -> &Gate {
        match of {
            Of::NodesAndDevices => &self.nodes,
            Of::Commands => &self.commands,
        }
    }
}

/// A listener whose connections are to be accepted.
pub struct Accepting {
    pub listener: Listener,
    pub of: Of,
    pub offer: Offer,
    pub until: Until,
}

/// Until when a listener stays open. Connections stay when it closes.
#[derive(Clone, Default)]
pub struct Until {
    /// Cancel it to close the listener.
    pub close: CancellationToken,
    /// Cancelled when the listener is closed.
    pub closed: CancellationToken,
}

/// Whether a connection has greeted, and what ends it. Clones share it; belongs to one thread.
#[derive(Clone, Default)]
pub struct Greeted(Rc<Cell<bool>>, Rc<RefCell<Option<Grip>>>);

impl Greeted {
    /// Checks a greeting and returns gpmd's own. From then on the connection may stay open.
    ///
    /// # Errors
    /// `AUTH_FAILED`, `VERSION_MISMATCH`.
    pub fn pass(&self, state: &State, greeting: wire_hello::Reader<'_>) -> Result<Hello> {
        hello::read(greeting)?.admit(state.home_id())?;
        self.0.set(true);
        Ok(state.hello())
    }

    /// Lets the connection stay open.
    pub fn keep(&self) {
        self.0.set(true);
    }

    /// Returns what ends and observes the connection.
    pub fn grip(&self) -> Option<Grip> {
        self.1.borrow().clone()
    }

    /// Pings the other side until the guard is dropped. Closes the connection if it does not answer.
    pub fn watch<F: Future + 'static>(
        &self,
        ping: impl Fn() -> F + 'static,
    ) -> Option<AbortOnDropHandle<()>> {
        self.1.borrow().as_ref().map(|grip| grip.watcher().watch(ping))
    }
}

/// Accepts connections until the listener is to close or gpmd is asked to stop. Returns when the last one is closed.
pub async fn accept(accepting: Accepting, state: Rc<State>) {
    let Accepting { listener, of, offer, until } = accepting;
    let (places, rejected) = (state.places.of(of).clone(), state.places.rejected.clone());
    let mut connections = JoinSet::new();
    loop {
        let transport = tokio::select! {
            () = state.stop.reach(Step::Asked) => break,
            () = until.close.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            transport = listener.accept() => transport,
        };
        match transport {
            Ok(transport) => match (places.enter("connections"), rejected.enter("connections")) {
                (Ok(place), _) => {
                    connections.spawn_local(serve(transport, state.clone(), offer, place));
                }
                (Err(_), Ok(place)) => {
                    tracing::warn!("rejected a connection: there are too many");
                    connections.spawn_local(reject(transport, place));
                }
                (Err(_), Err(_)) => {}
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    until.closed.cancel();
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until it ends or gpmd stops.
async fn serve(transport: Transport, state: Rc<State>, offer: Offer, _place: Pass) {
    let greeted = Greeted::default();
    // Only a connection that can join needs the secret; it is refused there if there is none.
    let binding = transport.binding().unwrap_or_default();
    let (offered, limits) = offer(&state, greeted.clone(), &transport.peer, binding);
    let connection = Connection::start(transport, Side::Accepted, limits, Some(offered));
    greeted.1.replace(Some(connection.grip()));
    let closed = connection.closed();
    tokio::pin!(closed);
    let late = async {
        sleep(GREETING).await;
        if greeted.0.get() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        why = &mut closed => tracing::debug!(?why, "a connection was closed"),
        () = late => tracing::debug!("closed a connection that sent no greeting"),
        () = state.stop.reach(Step::Closes) => {}
    }
    connection.finish().await;
}

async fn reject(transport: Transport, _place: Pass) {
    let connection = Connection::start(transport, Side::Accepted, MessageLimits::CONTROL, Some(overloaded()));
    let _ = timeout(REJECTED, connection.closed()).await;
    connection.finish().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fit_into_the_limit_on_open_files() {
        for files in [0, 32, 64, 256, 1024, 20_000, 1 << 20] {
            let places = Places::new(files);
            let count = |gate: &Gate| (0..).take_while(|places| gate.take(places + 1).is_some()).count();
            let [nodes, commands, rejected] = [&places.nodes, &places.commands, &places.rejected].map(count);
            assert!(nodes >= 4 && commands >= 4 && rejected >= 1);
            assert!(files < 64 || nodes + commands + rejected + OWN <= files, "{files}");
        }
        assert!(Places::new(1 << 20).nodes.take(MOST_NODES).is_some());
    }
}
