//! Connections to other devices that this gpmd makes for the confined nodes of its own.
//!
//! In: addresses that nodes ask for. Out: the connection, if a device of the network has told that address. Must not know: what the
//! node wants of the other device; TLS runs between the two.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::daemon::server::State;
use crate::daemon::stop::Step;
use crate::wire::connector::Door;

/// The most requests at once.
const AT_ONCE: usize = 256;

/// How long connecting may take: as long as a node waits that connects itself.
const CONNECT: Duration = Duration::from_secs(5);

/// Answers requests until gpmd is asked to stop.
pub async fn serve(door: Door, state: Rc<State>) {
    let mut running = JoinSet::new();
    loop {
        let asked = tokio::select! {
            () = state.stop.reach(Step::Asked) => return,
            Some(_) = running.join_next() => continue,
            asked = door.accept(), if running.len() < AT_ONCE => asked,
        };
        let state = state.clone();
        running.spawn_local(async move {
            let answered = asked.answer(async |at| connect(&state, at).await).await;
            if let Err(error) = answered {
                tracing::debug!("a request to connect failed: {error}");
            }
        });
    }
}

async fn connect(state: &State, at: SocketAddr) -> io::Result<TcpStream> {
    let network = &state.network;
    if !network.others().iter().any(|other| network.reach(other).contains(&at)) {
        return Err(io::Error::other("no device of the network has told this address"));
    }
    let connected = timeout(CONNECT, TcpStream::connect(at)).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
