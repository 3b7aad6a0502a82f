//! The life of a connected peer: it is added to the table, watched, and removed with a reason.
//!
//! In: a new connection to a peer. Out: events; the peers whose connection was lost, for reconnecting. Must
//! not know: how connections are dialled and accepted. Belongs to the node's thread.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::{broadcast, mpsc};

use super::lines::Lines;
use super::live::Directory;
use crate::base::event::Event;
use crate::base::node::NodeInfo;
use crate::peer::connected::{Ended, Peer};
use crate::peer::table::Table;
use crate::peer::term::End;

/// How the connection to a peer began. If it is lost, the side that dialled it dials again.
pub enum Met {
    /// The peer dialled this node.
    Accepted,
    /// A user of this node asked for the connection.
    Dialled(mpsc::Sender<NodeInfo>),
    /// An earlier connection was lost.
    Again(mpsc::Sender<NodeInfo>),
}

/// Adds a peer to the table and watches its connection. A connection that this side asked for sends no event.
pub fn join(
    table: &Rc<RefCell<Table<Rc<Peer>>>>,
    lines: &Lines,
    events: &broadcast::Sender<Event>,
    directory: &Directory,
    peer: Rc<Peer>,
    met: Met,
) {
    let name = peer.info.name.clone();
    let closed = peer.closed();
    let Some(added) = table.borrow_mut().add(peer.info.clone(), peer.clone()) else {
        // Another life of a node has connected with this name meanwhile.
        tracing::warn!(node = %name, "closed a connection: another life of the node is connected");
        tokio::task::spawn_local(async move { peer.leave("another life of this node is connected").await });
        return;
    };
    lines.set(&name, table.borrow().get(&name).map(|peer| peer.line.clone()));
    if added.first && !matches!(met, Met::Dialled(_)) {
        let _ = events.send(Event::Connected { name: name.clone() });
    }
    let gone = {
        let (table, events, directory) = (table.clone(), events.clone(), directory.clone());
        let (info, lines) = (peer.info.clone(), lines.clone());
        Rc::new(move |ended: Ended| {
            let last = table.borrow_mut().remove(&name, added.token);
            lines.set(&name, table.borrow().get(&name).map(|peer| peer.line.clone()));
            if last {
                directory.forget_node(&name);
                if let Met::Dialled(lost) | Met::Again(lost) = &met
                    && ended == Ended::Lost
                    && lost.try_send(info.clone()).is_err()
                {
                    tracing::warn!(node = %name, "not reconnecting: too many connections were lost at once");
                }
                let _ = events.send(Event::Down { name: name.clone(), why: ended.to_string() });
            }
        })
    };
    let said_goodbye = gone.clone();
    peer.on_goodbye(move |reason| said_goodbye(Ended::Goodbye(reason)));
    if let Some(lasts) = peer.lasts() {
        let (peer, gone, closed) = (Rc::downgrade(&peer), gone.clone(), peer.closed());
        // The task ends with the connection.
        tokio::task::spawn_local(async move {
            let expired = tokio::time::timeout(lasts, closed).await.is_err();
            if let Some(peer) = peer.upgrade().filter(|_| expired) {
                peer.end(End::Expired);
                gone(Ended::Goodbye(End::Expired.words().to_owned()));
                peer.leave(End::Expired.words()).await;
            }
        });
    }
    // The task ends with the connection, which ends at the latest with the thread's runtime.
    let line = peer.line.clone();
    tokio::task::spawn_local(async move {
        let ended = closed.await;
        gone(ended);
        line.gone.cancel();
    });
}
