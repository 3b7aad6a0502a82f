//! Refuses messages of `iroh-gossip` that no honest device sends, before the protocol forwards them.
//!
//! In: a message as bytes. Out: whether it is within the bounds, and what it broadcasts. Must not know: the protocol's state.
//!
//! The protocol keeps the fields of its messages to itself. They are read here in the form in which they cross the wire.

use bytes::Bytes;
use serde::Deserialize;

use crate::config::MOST_NAMED;
use crate::device::Device;

/// HyParView's walks have six steps at most (`active_random_walk_length`).
const MOST_STEPS: u16 = 6;
/// More than the hops that a broadcast makes even if the network is one long chain of devices.
const MOST_HOPS: u16 = 8192;

// `iroh_gossip::proto::topic::Message`, and what is in it.
#[derive(Deserialize)]
enum Message {
    Swarm(Swarm),
    Gossip(Gossip),
}

#[derive(Deserialize)]
enum Swarm {
    Join(Data),
    ForwardJoin { peer: Peer, steps: u16 },
    Shuffle { _origin: Device, peers: Vec<Peer>, steps: u16 },
    ShuffleReply { peers: Vec<Peer> },
    Neighbor { _priority: Priority, data: Data },
    Disconnect { _alive: bool, _respond: bool },
}

#[derive(Deserialize)]
enum Priority {
    High,
    Low,
}

/// Data that devices may add to their names. Ours do not.
type Data = Option<Bytes>;

#[derive(Deserialize)]
struct Peer {
    _device: Device,
    data: Data,
}

#[derive(Deserialize)]
enum Gossip {
    Broadcast { _id: [u8; 32], content: Bytes, scope: Scope },
    Prune,
    Graft { _id: Option<[u8; 32]>, hops: u16 },
    IHave(Vec<([u8; 32], u16)>),
}

#[derive(Deserialize)]
enum Scope {
    Swarm(u16),
    Neighbors,
}

/// What a message is, as far as the sender's honesty can be seen from it alone.
pub(crate) enum Verdict {
    Refused,
    /// It maintains the connections or the broadcast tree.
    Control,
    /// It broadcasts this.
    Broadcast(Bytes),
}

/// Judges the bytes of a message of `iroh-gossip`.
pub(crate) fn judge(bytes: &[u8]) -> Verdict {
    let Ok(message) = postcard::from_bytes(bytes) else {
        return Verdict::Refused;
    };
    let named = |peers: &[Peer]| peers.len() <= MOST_NAMED && peers.iter().all(|peer| peer.data.is_none());
    let fits = match message {
        Message::Swarm(message) => match message {
            Swarm::Join(data) | Swarm::Neighbor { data, .. } => data.is_none(),
            Swarm::ForwardJoin { peer, steps } => peer.data.is_none() && steps <= MOST_STEPS,
            Swarm::Shuffle { peers, steps, .. } => named(&peers) && steps <= MOST_STEPS,
            Swarm::ShuffleReply { peers } => named(&peers),
            Swarm::Disconnect { .. } => true,
        },
        Message::Gossip(message) => match message {
            Gossip::Broadcast { content, scope, .. } => match scope {
                Scope::Swarm(hops) if hops <= MOST_HOPS => return Verdict::Broadcast(content),
                Scope::Swarm(_) | Scope::Neighbors => false,
            },
            Gossip::Prune => true,
            Gossip::Graft { hops, .. } => hops <= MOST_HOPS,
            Gossip::IHave(messages) => messages.iter().all(|(_, hops)| *hops <= MOST_HOPS),
        },
    };
    if fits { Verdict::Control } else { Verdict::Refused }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::config::Config;
    use crate::overlay::{Effect, Overlay};

    const NOW: Duration = Duration::from_secs(1);

    /// All messages that two devices of `iroh-gossip` send each other until they are silent, as bytes.
    fn conversation() -> Vec<Vec<u8>> {
        let names = [Device([1; 32]), Device([2; 32])];
        let new = |me: Device| {
            Overlay::new(me, Config::default().topic(), StdRng::seed_from_u64(u64::from(me.0[0])))
        };
        let mut overlays = names.map(new);
        let mut seen = Vec::new();
        let mut pending: Vec<(usize, Effect)> = Vec::new();
        pending.extend(overlays[0].join(vec![names[1]], NOW).into_iter().map(|effect| (0, effect)));
        for round in 0..40_u64 {
            while let Some((from, effect)) = pending.pop() {
                if let Effect::Send(_, message) = effect {
                    seen.push(postcard::to_allocvec(&message).unwrap());
                    let to = 1 - from;
                    pending.extend(
                        overlays[to]
                            .received(names[from], message, NOW)
                            .into_iter()
                            .map(|effect| (to, effect)),
                    );
                }
            }
            let from = (round % 2) as usize;
            if round % 5 == 0 {
                // The second one arrives again by another way, so the tree is pruned.
                let content = vec![round as u8; 100];
                pending
                    .extend(overlays[from].broadcast(content, NOW).into_iter().map(|effect| (from, effect)));
            }
            while let Some(effects) = overlays[from].tick(NOW * (2 + round as u32 * 10)) {
                pending.extend(effects.into_iter().map(|effect| (from, effect)));
            }
        }
        pending.extend(overlays[0].quit(NOW).into_iter().map(|effect| (0, effect)));
        for (_, effect) in pending {
            if let Effect::Send(_, message) = effect {
                seen.push(postcard::to_allocvec(&message).unwrap());
            }
        }
        seen
    }

    #[test]
    fn honest_messages_pass_and_broadcasts_are_found() {
        let messages = conversation();
        let mut broadcasts = 0;
        for message in &messages {
            match judge(message) {
                Verdict::Refused => panic!("an honest message is refused: {message:?}"),
                Verdict::Control => {}
                Verdict::Broadcast(content) => {
                    assert_eq!(content.len(), 100);
                    broadcasts += 1;
                }
            }
        }
        assert_eq!(broadcasts, 8);
        // Join, Neighbor, Shuffle, ShuffleReply and Disconnect, by their numbers on the wire.
        for kind in [0, 2, 3, 4, 5] {
            assert!(messages.iter().any(|message| message.starts_with(&[0, kind])), "kind {kind} was seen");
        }
    }

    #[test]
    fn hostile_messages_are_refused() {
        let refused = |bytes: &[u8]| matches!(judge(bytes), Verdict::Refused);
        let message = |start: &[u8], length: usize, end: &[u8]| [start, &vec![7; length], end].concat();
        // A walk of 65,535 steps, encoded in three bytes.
        assert!(!refused(&message(&[0, 1], 32, &[0, 6])), "an honest ForwardJoin passes");
        assert!(refused(&message(&[0, 1], 32, &[0, 255, 255, 3])));
        // A join with data.
        assert!(refused(&[0, 0, 1, 2, 9, 9]));
        // A number of hops that overflows when it is increased.
        assert!(!refused(&message(&[1, 0], 32, &[1, 5, 0, 3])), "an honest broadcast passes");
        assert!(refused(&message(&[1, 0], 32, &[1, 5, 0, 255, 255, 3])));
        // A broadcast to neighbours only, which no device makes.
        assert!(refused(&message(&[1, 0], 32, &[1, 5, 1])));
        assert!(refused(&[]) && refused(&[9]) && refused(&[0, 3, 255, 255, 255, 255, 15]));
    }
}
