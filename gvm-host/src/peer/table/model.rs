//! The table of peers beside a model of it: a list of connections.
//!
//! In: sequences of connections that begin and end in any order, of nodes that start again, of nodes with one name on several
//! devices. Out: failures where an answer differs. Must not know: how the table is kept.

use proptest::prelude::*;

use super::*;
use crate::base::device::DeviceId;
use crate::base::error::Code;
use crate::base::id::Hash;

/// The names that meet: some begin alike, and some are those of one node on several devices.
const NAMES: [&str; 7] = ["a", "a-b", "a@pi", "a@tv", "b@pi", "ab", "ab@tv"];

#[derive(Clone, Debug)]
enum Step {
    /// A node connects: its name, its life, and whether it claims to be of another device than its name says.
    Connect { name: &'static str, incarnation: u64, other_device: bool },
    /// A connection ends, and may have ended before. The number selects one of all so far.
    End(prop::sample::Index),
    /// A connection ends under a name that is not its own: nothing may happen.
    EndElsewhere(prop::sample::Index, &'static str),
    /// A peer is revoked or disconnected, with all its connections.
    Revoke(&'static str),
    /// The node ends.
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let name = || prop::sample::select(&NAMES);
    let index = any::<prop::sample::Index>;
    prop_oneof![
        12 => (name(), 0..2_u64, prop::bool::weighted(0.1)).prop_map(|(name, incarnation, other_device)| {
            Step::Connect { name, incarnation, other_device }
        }),
        8 => index().prop_map(Step::End),
        2 => (index(), name()).prop_map(|(index, name)| Step::EndElsewhere(index, name)),
        2 => name().prop_map(Step::Revoke),
        1 => Just(Step::Clear),
    ]
}

fn info(name: &str, incarnation: u64, other_device: bool) -> NodeInfo {
    let name: NodeName = name.parse().unwrap();
    let number = name.device().map_or(0, |device| device.as_bytes()[0]) + u8::from(other_device);
    NodeInfo {
        device: (number > 0).then_some(DeviceId(Hash([number; 32]))),
        name,
        id: uuid::Uuid::nil(),
        incarnation,
        address: "unix:/x".into(),
        addresses: vec!["unix:/x".into()],
        since_ms: 0,
    }
}

/// A connection of the model. Each has a number of its own, which is what the table holds.
#[derive(Clone, Debug)]
struct Line {
    token: Token,
    info: NodeInfo,
    number: u32,
}

/// Returns the name that a person means, from all names: the exact one, else the only one without its device.
fn meant(names: &[NodeName], name: &NodeName) -> std::result::Result<Option<NodeName>, Code> {
    if names.contains(name) || name.device().is_some() {
        return Ok(names.iter().find(|other| *other == name).cloned());
    }
    let alike: Vec<&NodeName> = names.iter().filter(|other| other.bare() == name.as_str()).collect();
    match alike[..] {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        _ => Err(Code::NodeNameAmbiguous),
    }
}

fn compare(table: &Table<u32>, model: &[Line]) -> std::result::Result<(), TestCaseError> {
    let mut names: Vec<NodeName> = model.iter().map(|line| line.info.name.clone()).collect();
    names.sort();
    names.dedup();
    prop_assert_eq!(table.names().cloned().collect::<Vec<_>>(), names.clone());
    prop_assert_eq!(table.peers().map(|peer| peer.name.clone()).collect::<Vec<_>>(), names.clone());
    for name in NAMES {
        let name: NodeName = name.parse().unwrap();
        let lines: Vec<&Line> = model.iter().filter(|line| line.info.name == name).collect();
        let numbers: Vec<u32> = lines.iter().map(|line| line.number).collect();
        prop_assert_eq!(table.get(&name).copied(), numbers.first().copied(), "the oldest connection");
        prop_assert_eq!(table.all(&name), numbers);
        let peer = table.peers().find(|peer| peer.name == name).map(NodeInfo::to_ref);
        prop_assert!(lines.iter().all(|line| Some(line.info.to_ref()) == peer), "one life for each name");
        prop_assert_eq!(table.meant(&name).map_err(|error| error.code()), meant(&names, &name));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_sequence_is_as_in_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let mut table = Table::default();
        // All connections that ever were, and those that have not ended.
        let (mut every, mut model): (Vec<Line>, Vec<Line>) = Default::default();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Connect { name, incarnation, other_device } => {
                    let info = info(name, incarnation, other_device);
                    let same = || model.iter().filter(|line| line.info.name == info.name);
                    let displaces = same().any(|line| line.info.to_ref() != info.to_ref());
                    let first = same().next().is_none();
                    match table.add(info.clone(), number) {
                        None => prop_assert!(displaces, "the same life may connect"),
                        Some(added) => {
                            prop_assert!(!displaces, "another life must wait");
                            prop_assert_eq!(added.first, first);
                            prop_assert!(every.iter().all(|line| line.token != added.token));
                            let line = Line { token: added.token, info, number };
                            every.push(line.clone());
                            model.push(line);
                        }
                    }
                }
                Step::End(_) | Step::EndElsewhere(..) if every.is_empty() => {}
                Step::End(index) => {
                    let Line { token, info, .. } = index.get(&every).clone();
                    let was = model.iter().any(|line| line.token == token);
                    model.retain(|line| line.token != token);
                    let last = was && !model.iter().any(|line| line.info.name == info.name);
                    prop_assert_eq!(table.remove(&info.name, token), last, "gone with the last connection, once");
                }
                Step::EndElsewhere(index, name) => {
                    let line = index.get(&every);
                    if line.info.name.as_str() != name {
                        prop_assert!(!table.remove(&name.parse().unwrap(), line.token));
                    }
                }
                Step::Revoke(name) => {
                    let name: NodeName = name.parse().unwrap();
                    let of_peer = |line: &Line| line.info.name == name;
                    let numbers: Vec<u32> =
                        model.iter().filter(|line| of_peer(line)).map(|line| line.number).collect();
                    model.retain(|line| !of_peer(line));
                    prop_assert_eq!(table.remove_peer(&name), numbers);
                }
                Step::Clear => {
                    let mut cleared = table.clear();
                    cleared.sort_unstable();
                    prop_assert_eq!(cleared, model.drain(..).map(|line| line.number).collect::<Vec<_>>());
                }
            }
            compare(&table, &model)?;
        }
    }
}
