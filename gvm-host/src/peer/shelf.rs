//! The contents that one side of a session holds for the other side to fetch.
//!
//! In: parts of large values. Out: the same parts by their id, until they are released or fetched. Must not know: the
//! values that they belong to, how they cross.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::base::error::{Code, Error, Result};
use crate::base::{limits, threads};
use crate::wire::bulk::Holder;
use crate::wire::large::{Blob, Content};

/// The contents that one side of a session holds for the other. `Send + Sync`: the bulk thread reads it.
#[derive(Default)]
pub struct Shelf {
    held: Mutex<Held>,
    /// Cancelled when the session ends: nothing is served after that.
    pub(super) closed: CancellationToken,
}

#[derive(Default)]
struct Held {
    next: u64,
    contents: HashMap<u64, Content>,
    /// The size of each result that waits to be fetched, and their total.
    kept: HashMap<u64, u64>,
    kept_bytes: u64,
}

/// Contents that are held until this is dropped.
pub struct Lent {
    shelf: Arc<Shelf>,
    ids: Vec<u64>,
}

impl Lent {
    /// Also holds what another guard holds.
    pub fn join(&mut self, mut other: Lent) {
        self.ids.append(&mut other.ids);
    }
}

impl Shelf {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops all contents, and ends the bulk connection that serves them.
    pub fn close(&self) {
        self.closed.cancel();
        let held = std::mem::take(&mut *self.held());
        drop(held);
    }

    fn add(&self, contents: Vec<Content>) -> Vec<Blob> {
        let mut held = self.held();
        let mut add = |content: Content| {
            held.next += 1;
            let blob = content.blob(held.next);
            held.contents.insert(blob.id, content);
            blob
        };
        contents.into_iter().map(&mut add).collect()
    }

    /// Holds contents until the guard is dropped.
    pub fn lend(self: &Arc<Shelf>, contents: Vec<Content>) -> (Vec<Blob>, Lent) {
        let blobs = self.add(contents);
        let ids = blobs.iter().map(|blob| blob.id).collect();
        (blobs, Lent { shelf: self.clone(), ids })
    }

    /// Holds contents until they are fetched, for [`limits::KEPT_FOR`] at most.
    pub fn keep(self: &Arc<Shelf>, contents: Vec<Content>) -> Result<Vec<Blob>> {
        let bytes: u64 = contents.iter().map(|content| content.bytes().len() as u64).sum();
        if self.held().kept_bytes + bytes > limits::KEPT {
            let waiting = limits::bytes(self.held().kept_bytes);
            return Err(Error::new(
                Code::Overloaded,
                format!("the node cannot hold this result: {waiting} of results already wait to be fetched"),
            )
            .with_help("make fewer calls with large results at once"));
        }
        let blobs = self.add(contents);
        let mut held = self.held();
        held.kept_bytes += bytes;
        held.kept.extend(blobs.iter().map(|blob| (blob.id, blob.bytes)));
        drop(held);
        let (shelf, ids) = (Arc::downgrade(self), blobs.iter().map(|blob| blob.id).collect::<Vec<_>>());
        threads::bulk()?.spawn(async move {
            tokio::time::sleep(limits::KEPT_FOR).await;
            if let Some(shelf) = shelf.upgrade() {
                shelf.remove(&ids);
            }
        });
        Ok(blobs)
    }

    fn remove(&self, ids: &[u64]) {
        let mut held = self.held();
        let removed: Vec<_> = ids.iter().filter_map(|id| held.contents.remove(id)).collect();
        for id in ids {
            if let Some(bytes) = held.kept.remove(id) {
                held.kept_bytes -= bytes;
            }
        }
        drop(held);
        drop(removed);
    }
}

impl Holder for Shelf {
    fn get(&self, id: u64) -> Option<Content> {
        self.held().contents.get(&id).cloned()
    }

    fn sent(&self, id: u64) {
        if self.held().kept.contains_key(&id) {
            self.remove(&[id]);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Freeing much memory takes milliseconds, too long for this thread.
        let (shelf, ids) = (self.shelf.clone(), std::mem::take(&mut self.ids));
        match threads::bulk() {
            Ok(thread) => drop(thread.spawn(async move { shelf.remove(&ids) })),
            Err(_) => shelf.remove(&ids),
        }
    }
}
