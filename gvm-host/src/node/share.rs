//! What a peer may take of the room for guests, so that the users of the node and the other peers have some too.
//!
//! In: calls and live instances of peers. Out: their turn, or a refusal before anything has begun. Must not know: how guests run,
//! sessions.
//!
//! A process has room for so many calls on fresh instances ([`limits::POOL`]) and for so many live instances
//! ([`limits::live_pool`]). All peers together get a part of it, and one peer a part of that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::base::device::DeviceId;
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::limits::{self, Limits};
use crate::call::deadline::in_time;
use crate::wire::gate::Gate;

/// The room for the guests of all peers of a node. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Shares {
    calls: Arc<Semaphore>,
    /// For peers that have few calls, when others have taken the rest.
    few: Arc<Semaphore>,
    live: Gate,
    /// What the nodes of another device share: a device can have any number of nodes.
    devices: Arc<Mutex<HashMap<DeviceId, Weak<Own>>>>,
}

/// What belongs to one peer: a node of this device, or all nodes of another one.
struct Own {
    calls: Arc<Semaphore>,
    /// For calls that calls make.
    nested: Arc<Semaphore>,
}

impl Default for Own {
    fn default() -> Own {
        let [calls, nested] = [limits::CALLS_OF_PEER, limits::CALLS_OF_PEER / 2];
        Own { calls: Arc::new(Semaphore::new(calls)), nested: Arc::new(Semaphore::new(nested)) }
    }
}

impl Default for Shares {
    fn default() -> Shares {
        Shares {
            calls: Arc::new(Semaphore::new(limits::CALLS_OF_PEERS)),
            few: Arc::new(Semaphore::new(limits::CALLS_OF_PEERS_WITH_FEW)),
            live: Gate::new(limits::live_of_peers()),
            devices: Arc::default(),
        }
    }
}

impl Shares {
    /// Returns the share of one more peer. All nodes of the same other device have one share.
    pub fn of_peer(&self, device: Option<DeviceId>) -> Share {
        let own = device.map_or_else(Arc::default, |device| self.of_device(device));
        Share { own, all: self.calls.clone(), few: self.few.clone() }
    }

    fn of_device(&self, device: DeviceId) -> Arc<Own> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|_, own| own.strong_count() > 0);
        let known = devices.get(&device).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let own = Arc::default();
            devices.insert(device, Arc::downgrade(&own));
            own
        })
    }

    /// Returns the places for the live instances of all peers.
    pub fn live(&self) -> &Gate {
        &self.live
    }
}

/// The room for the fresh instances of one peer. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Share {
    own: Arc<Own>,
    all: Arc<Semaphore>,
    few: Arc<Semaphore>,
}

/// The turn of a call: it may run until this is dropped.
pub struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Share {
    /// Waits for the turn of a call, within its time limit since `began`. A call that is made by another call (`above`) does not
    /// wait, and counts apart: the one above it keeps its place meanwhile, and all could wait for each other.
    ///
    /// # Errors
    /// `OVERLOADED` for a call of a call; `TIMEOUT`; the guest has not started.
    pub async fn turn(&self, above: &[Uuid], limits: &Limits, began: Instant) -> Result<Turn> {
        if !above.is_empty() {
            let own = self.own.nested.clone().try_acquire_owned().ok();
            let both = own.zip(self.all.clone().try_acquire_owned().ok());
            return both.map(|(own, all)| Turn { _own: own, _all: all }).ok_or_else(|| {
                let sentence = "the node runs as many calls of other nodes as it may";
                Error::new(Code::Overloaded, sentence)
                    .with_help("wait and try again")
                    .with_effect(Effect::NotStarted)
            });
        }
        let waiting = async {
            let stopped = |_| Error::internal("the node is stopping");
            let own = self.own.calls.clone().acquire_owned().await.map_err(stopped)?;
            let all = tokio::select! {
                biased;
                all = self.all.clone().acquire_owned() => all,
                few = self.few.clone().acquire_owned(), if self.has_few() => few,
            };
            let all = all.map_err(stopped)?;
            Ok(Turn { _own: own, _all: all })
        };
        in_time(limits.timeout, Some(began), Effect::NotStarted, waiting).await
    }

    /// Returns whether the peer has few calls that run, the one that asks included.
    fn has_few(&self) -> bool {
        limits::CALLS_OF_PEER - self.own.calls.available_permits() <= limits::FEW_CALLS
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::id::Hash;

    #[test]
    fn a_peer_gets_a_part_and_waits_for_more() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shares = Shares::default();
            let (greedy, other) = (shares.of_peer(None), shares.of_peer(None));
            let no_limit = Limits::default();
            let brief = Limits { timeout: Some(Duration::from_millis(20)), ..no_limit };
            let mut turns = Vec::new();
            for _ in 0..limits::CALLS_OF_PEER {
                turns.push(greedy.turn(&[], &no_limit, Instant::now()).await.unwrap());
            }
            let late = greedy.turn(&[], &brief, Instant::now()).await.err().unwrap();
            assert_eq!((late.code(), late.effect()), (Code::Timeout, Effect::NotStarted));
            greedy.turn(&[Uuid::nil()], &no_limit, Instant::now()).await.unwrap();
            other.turn(&[], &brief, Instant::now()).await.unwrap();
            let next = greedy.turn(&[], &no_limit, Instant::now());
            let freed = async { drop(turns.pop()) };
            let (next, ()) = tokio::join!(next, freed);
            next.unwrap();
            // The nodes of another device are one peer.
            let device = DeviceId(Hash::of(b"device"));
            let (one, another) = (shares.of_peer(Some(device)), shares.of_peer(Some(device)));
            assert!(Arc::ptr_eq(&one.own, &another.own) && !Arc::ptr_eq(&one.own, &other.own));
            drop((one, another));
            assert!(shares.of_peer(None).own.calls.available_permits() == limits::CALLS_OF_PEER);
            // Many peers together leave room too.
            let peers: Vec<Share> = (0..10).map(|_| shares.of_peer(None)).collect();
            let mut all = Vec::new();
            for peer in &peers {
                while all.len() + turns.len() < limits::CALLS_OF_PEERS
                    && let Ok(turn) = peer.turn(&[], &brief, Instant::now()).await
                {
                    all.push(turn);
                }
            }
            assert_eq!(all.len() + turns.len(), limits::CALLS_OF_PEERS);
            // One that has many waits, one that has few does not.
            assert!(greedy.turn(&[], &brief, Instant::now()).await.is_err());
            other.turn(&[], &brief, Instant::now()).await.unwrap();
            let nested = greedy.turn(&[Uuid::nil()], &no_limit, Instant::now()).await.err().unwrap();
            assert_eq!((nested.code(), nested.effect()), (Code::Overloaded, Effect::NotStarted));
            const { assert!(limits::CALLS_OF_PEERS + limits::CALLS_OF_PEERS_WITH_FEW < limits::POOL as usize) };
        });
    }
}
