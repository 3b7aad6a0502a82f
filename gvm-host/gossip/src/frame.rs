//! What crosses a connection between two devices.
//!
//! In: frames, bytes. Out: bytes, frames. Must not know: who sends them, what they cause.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::config::{BUCKETS, MOST_FRAME};
use crate::device::Short;
use crate::record::{Kind, Record, Version};

/// The sums of a device's records, per bucket. Two devices with the same sums have the same records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums(pub [u64; BUCKETS]);

/// The version of a record that the sender has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub device: Short,
    pub kind: Kind,
    pub version: Version,
}

#[derive(Clone, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "a frame is written or read once and not kept")]
pub(crate) enum Frame {
    Heartbeat,
    /// A message of `iroh-gossip`, as bytes: they are judged before they are read.
    Overlay(Bytes),
    /// The sender has learnt these records by asking, so the receiver may lack them too.
    Offer(Vec<Entry>),
    /// These are the sender's sums. The receiver answers with a `Summary` of the buckets that differ.
    Pull(Sums),
    Summary(Vec<Entry>),
    /// Requests records.
    Want(Vec<(Short, Kind)>),
    Records {
        records: Vec<Record>,
        /// Whether these are the last ones of an answer.
        last: bool,
    },
}

impl Frame {
    pub fn encode(&self) -> Vec<u8> {
        // Writing plain data into memory cannot fail; an empty frame would be refused by its receiver.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads a frame; `None` if these bytes are none.
    pub fn decode(bytes: &[u8]) -> Option<Frame> {
        if bytes.len() > MOST_FRAME {
            return None;
        }
        postcard::take_from_bytes(bytes).ok().filter(|(_, rest)| rest.is_empty()).map(|(frame, _)| frame)
    }
}
