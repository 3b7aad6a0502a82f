//! Who is connected: into the table, watched over, and out of it with a reason.
//!
//! In: a peer that was met. Out: events; word of those whose connection was lost. Belongs to the node's
//! thread. Must not know: how the two met, or meet again.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::{broadcast, mpsc};

use super::live::Directory;
use crate::base::event::Event;
use crate::base::id::NodeInfo;
use crate::peer::connected::{LOST, Peer};
use crate::peer::table::Table;
use crate::peer::term::End;

/// How a peer came to be one; who dialled it dials it again where the connection is lost.
pub enum Met {
    /// It dialled this node.
    Accepted,
    /// A person here asked for it.
    Dialled(mpsc::Sender<NodeInfo>),
    /// Its connection had been lost.
    Again(mpsc::Sender<NodeInfo>),
}

/// Takes a peer into the table and watches over it. What this side asked for itself is no event.
pub fn join(
    table: &Rc<RefCell<Table<Rc<Peer>>>>,
    events: &broadcast::Sender<Event>,
    directory: &Directory,
    peer: Rc<Peer>,
    met: Met,
) {
    let name = peer.info.name.clone();
    let closed = peer.closed();
    let added = table.borrow_mut().add(peer.info.clone(), peer.clone());
    // Connections of an earlier life of the node end here.
    drop(added.ghosts);
    if added.first && !matches!(met, Met::Dialled(_)) {
        let _ = events.send(Event::Connected { name: name.clone() });
    }
    let gone = {
        let (table, events, directory) = (table.clone(), events.clone(), directory.clone());
        let info = peer.info.clone();
        Rc::new(move |why: String| {
            if table.borrow_mut().remove(&name, added.token) {
                directory.forget_node(&name);
                if let Met::Dialled(lost) | Met::Again(lost) = &met
                    && why == LOST
                    && lost.try_send(info.clone()).is_err()
                {
                    tracing::warn!(node = %name, "is not tried again: too many connections were lost at once");
                }
                let _ = events.send(Event::Down { name: name.clone(), why });
            }
        })
    };
    let hear = gone.clone();
    peer.on_goodbye(move |why| hear(why));
    if let Some(lasts) = peer.lasts() {
        let (peer, gone, closed) = (Rc::downgrade(&peer), gone.clone(), peer.closed());
        // Ends with the connection.
        tokio::task::spawn_local(async move {
            let expired = tokio::time::timeout(lasts, closed).await.is_err();
            if let Some(peer) = peer.upgrade().filter(|_| expired) {
                peer.end(End::Expired);
                gone(End::Expired.words().to_owned());
                peer.leave(End::Expired.words()).await;
            }
        });
    }
    // Ends with the connection, which ends with the thread's runtime at the latest.
    tokio::task::spawn_local(async move { gone(closed.await) });
}
