//! The numbers of the protocol, each with its reason.
//!
//! In: nothing. Out: durations and bounds, and the settings of `iroh-gossip`. Must not know: what they are used for elsewhere.

use std::time::Duration;

use iroh_gossip::proto::topic;

/// The most neighbours that a record may list, so that a hostile member cannot make large ones.
pub(crate) const MOST_LINKS: usize = 16;
/// The largest payload: the names of some 40 nodes. A device that has more says so, and is asked directly.
pub(crate) const MOST_PAYLOAD: usize = 1024;
/// The most devices that a message of HyParView may name. Ours name eight.
pub(crate) const MOST_NAMED: usize = 16;
/// The largest frame: a summary of all records of 4,096 devices, the most that a roster has.
pub(crate) const MOST_FRAME: usize = 256 << 10;
/// Answers are sent in pieces of about this size, so that heartbeats pass between them.
pub(crate) const PIECE: usize = 16 << 10;
/// Records of devices whose admission has not arrived yet wait for it: as many as a burst of joining devices makes.
pub(crate) const MOST_PARKED: usize = 256;
/// Records are compared by bucket. 32 sums are 256 bytes; a bucket of a network of 1,000 devices has 60 records.
pub(crate) const BUCKETS: usize = 32;

/// The durations that a simulation varies. `Config::default()` is what the product uses.
#[derive(Clone, Debug)]
pub struct Config {
    /// Neighbours of a device. HyParView has 5 for networks of 10,000 devices; 6 keeps the map connected if five
    /// connections break at once.
    pub neighbours: usize,
    /// An idle connection carries a heartbeat this often.
    pub heartbeat: Duration,
    /// A neighbour that is silent for this long is no neighbour any more; on a bad connection, up to 9 s. With `grace` and the way of the message, a
    /// device that vanishes is reported within 5 s.
    pub silence: Duration,
    /// A device that no connection leads to is reported as down after this time, because its neighbours may just be
    /// changing.
    pub grace: Duration,
    /// Changes of neighbours and payload within this time are published together.
    pub gather: Duration,
    /// The same for changes that no device's being up depends on: a neighbour was exchanged for another.
    pub calm: Duration,
    /// The shortest time between two publications. A device that has joined changes its neighbours several times.
    pub pause: Duration,
    /// How often records are compared with a random neighbour, in case a broadcast was lost.
    pub compare: Duration,
    /// A device without neighbours tries to reach another one this often.
    pub alone: Duration,
    /// A device tries to reach one of the missing devices once per this time and reachable device. So the whole network
    /// tries about five times per second, whatever its size.
    pub missing: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            neighbours: 6,
            heartbeat: Duration::from_secs(1),
            silence: Duration::from_millis(2600),
            grace: Duration::from_millis(1200),
            gather: Duration::from_millis(200),
            calm: Duration::from_secs(3),
            pause: Duration::from_millis(500),
            compare: Duration::from_secs(30),
            alone: Duration::from_secs(1),
            missing: Duration::from_millis(200),
        }
    }
}

impl Config {
    pub(crate) fn topic(&self) -> topic::Config {
        let mut config = topic::Config::default();
        config.membership.active_view_capacity = self.neighbours;
        // Connecting over TLS takes three round trips, of up to 160 ms each, and some packets are lost.
        config.membership.neighbor_request_timeout = Duration::from_secs(3);
        // A shuffle costs a connection to a stranger.
        config.membership.shuffle_interval = Duration::from_secs(30);
        // A missing message is requested after some hops of 80 ms, not before its usual way has ended.
        config.broadcast.dispatch_timeout = Duration::from_millis(50);
        config.broadcast.graft_timeout_1 = Duration::from_millis(500);
        config.broadcast.graft_timeout_2 = Duration::from_millis(300);
        config.broadcast.cache_evict_interval = Duration::from_secs(5);
        config
    }
}
