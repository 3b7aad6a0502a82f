//! The nodes of other devices, and what the name of a node means in a network.
//!
//! In: what other devices tell, names that a person typed. Out: the nodes that a name can mean, or errors with suggestions.
//! Pure. Must not know: connections, how this device's own nodes register.

use std::collections::BTreeMap;

use crate::base::device::NodeName;
use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;
use crate::base::near;
use crate::base::node::Life;

/// The most nodes of one device that are kept.
pub const MOST_NODES: usize = 20_000;

/// A node as its device tells others about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    pub life: Life,
    /// When it registered, in milliseconds since 1970.
    pub since_ms: i64,
}

/// The nodes of one device.
pub type Nodes = BTreeMap<Name, Present>;

/// Applies what a device told: nodes that are new or changed, and those that are gone.
///
/// # Errors
/// `LIMIT_EXCEEDED` if there would be too many; then nothing changes.
pub fn apply(nodes: &mut Nodes, all: bool, here: Vec<(Name, Present)>, gone: &[Name]) -> Result<()> {
    let kept = if all { 0 } else { nodes.len() };
    if kept + here.len() > MOST_NODES + gone.len() {
        let sentence = format!("a device has more than {MOST_NODES} nodes");
        return Err(Error::new(Code::LimitExceeded, sentence));
    }
    if all {
        nodes.clear();
    }
    for name in gone {
        nodes.remove(name);
    }
    nodes.extend(here);
    Ok(())
}

/// The difference between two states of the nodes of a device.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub here: Vec<(Name, Present)>,
    pub gone: Vec<Name>,
}

/// Returns what changed between two states.
pub fn difference(before: &Nodes, after: &Nodes) -> Change {
    let new = after.iter().filter(|(name, node)| before.get(*name) != Some(node));
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    Change {
        here: new.map(|(name, node)| (name.clone(), node.clone())).collect(),
        gone: gone.cloned().collect(),
    }
}

/// Returns whether a guest's device may see a node whose accept policy has these patterns: one of them names a node of that
/// device (`name@device`) or all of them (`*@device`).
pub fn is_seen_by_guest(accepts: &[String], device: &Name) -> bool {
    accepts.iter().any(|pattern| {
        pattern.split_once('@').is_some_and(|(name, of)| !name.is_empty() && of == device.as_str())
    })
}

/// A device of the network, as far as names are concerned.
#[derive(Debug)]
pub struct Named<'a> {
    pub device: &'a Name,
    /// `None` while it is not connected.
    pub nodes: Option<&'a Nodes>,
}

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The node of this device with this name, if there is one.
    Own(Name),
    /// The node with this name on the device at this place of the list.
    Other(usize, Name),
}

/// Finds out what a name means: `NAME@DEVICE` that node; `NAME` the node of this device, else the only one in the network.
/// `own` is the name of this device, `own_nodes` are the names of its nodes.
///
/// # Errors
/// `NODE_NOT_FOUND`, `DEVICE_NOT_FOUND` with similar names; `DEVICE_DOWN`; `NODE_NAME_AMBIGUOUS` with the full names.
pub fn look_up<'a>(
    wanted: &str,
    own: Option<&Name>,
    own_nodes: impl Fn(&Name) -> bool,
    all_own: impl Iterator<Item = &'a Name>,
    others: &[Named<'_>],
) -> Result<Meaning> {
    let unknown = |all_own: &mut dyn Iterator<Item = &'a Name>| {
        let others = others.iter().flat_map(|other| {
            let names = other.nodes.into_iter().flat_map(BTreeMap::keys);
            names.map(|name| NodeName::on(name, other.device).to_string())
        });
        let all: Vec<String> = all_own.map(Name::to_string).chain(others).collect();
        let near = near::suggestion(wanted, all.iter().map(String::as_str));
        let error = Error::new(Code::NodeNotFound, format!("no running node is named `{wanted}`{near}"));
        match near.is_empty() {
            true => error.with_help("list the running nodes with `Node.discover()`"),
            false => error,
        }
    };
    let mut all_own = all_own;
    let Ok(parsed) = wanted.parse::<NodeName>() else { return Err(unknown(&mut all_own)) };
    let Ok(name) = parsed.bare().parse::<Name>() else { return Err(unknown(&mut all_own)) };
    let Some(device) = parsed.device() else {
        if own_nodes(&name) {
            return Ok(Meaning::Own(name));
        }
        let has = |other: &Named<'_>| other.nodes.is_some_and(|nodes| nodes.contains_key(&name));
        let found: Vec<usize> = (0..others.len()).filter(|place| has(&others[*place])).collect();
        return match found.as_slice() {
            [] => Err(unknown(&mut all_own)),
            [place] => Ok(Meaning::Other(*place, name)),
            several => {
                let mut names: Vec<String> = several
                    .iter()
                    .map(|place| format!("`{}`", NodeName::on(&name, others[*place].device)))
                    .collect();
                names.sort();
                let last = names.pop().unwrap_or_default();
                let sentence =
                    format!("several devices have a node named `{name}`: {} and {last}", names.join(", "));
                Err(Error::new(Code::NodeNameAmbiguous, sentence).with_help("use a full name"))
            }
        };
    };
    if own.is_some_and(|own| own.as_str() == device) {
        return match own_nodes(&name) {
            true => Ok(Meaning::Own(name)),
            false => Err(unknown(&mut all_own)),
        };
    }
    match others.iter().position(|other| other.device.as_str() == device) {
        Some(place) => match others[place].nodes {
            Some(nodes) if nodes.contains_key(&name) => Ok(Meaning::Other(place, name)),
            Some(_) => Err(unknown(&mut all_own)),
            None => Err(Error::new(Code::DeviceDown, format!("the device `{device}` is not connected"))
                .with_help("`gpmd devices` shows why")),
        },
        None => Err(unknown_device(device, others.iter().map(|other| other.device).chain(own))),
    }
}

/// The error for a name that no device has.
pub fn unknown_device<'a>(wanted: &str, names: impl Iterator<Item = &'a Name>) -> Error {
    let near = near::suggestion(wanted, names.map(Name::as_str));
    let sentence = format!("no device of the network is named `{wanted}`{near}");
    Error::new(Code::DeviceNotFound, sentence).with_help("`gpmd devices` lists the devices")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn node(incarnation: u64) -> Present {
        Present { life: Life { id: uuid::Uuid::from_u128(1), incarnation }, since_ms: 0 }
    }

    fn nodes(names: &[&str]) -> Nodes {
        names.iter().map(|text| (name(text), node(1))).collect()
    }

    #[test]
    fn names_mean_own_nodes_first_then_the_only_one() {
        let (laptop, pi, tv, off) = (name("laptop"), name("pi"), name("tv"), name("off"));
        let (on_pi, on_tv) = (nodes(&["study", "hall", "math"]), nodes(&["math", "hall"]));
        let others = [
            Named { device: &pi, nodes: Some(&on_pi) },
            Named { device: &tv, nodes: Some(&on_tv) },
            Named { device: &off, nodes: None },
        ];
        let own = [name("math")];
        let look =
            |wanted: &str| look_up(wanted, Some(&laptop), |name| own.contains(name), own.iter(), &others);
        assert_eq!(look("math").unwrap(), Meaning::Own(name("math")));
        assert_eq!(look("math@laptop").unwrap(), Meaning::Own(name("math")));
        assert_eq!(look("math@tv").unwrap(), Meaning::Other(1, name("math")));
        assert_eq!(look("study").unwrap(), Meaning::Other(0, name("study")));
        let ambiguous = look("hall").unwrap_err();
        assert_eq!(ambiguous.code(), Code::NodeNameAmbiguous);
        assert!(ambiguous.message().ends_with("`hall@pi` and `hall@tv`"), "{ambiguous}");
        assert_eq!(look("math@off").unwrap_err().code(), Code::DeviceDown);
        let unknown = look("math@pie").unwrap_err();
        assert_eq!(unknown.code(), Code::DeviceNotFound);
        assert!(unknown.message().contains("did you mean `pi`"), "{unknown}");
        let unknown = look("stud").unwrap_err();
        assert!(unknown.message().contains("`study@pi`"), "{unknown}");
        for missing in ["study@laptop", "study@tv", "zzz", "Not A Name", "a@b@c", ""] {
            assert_eq!(look(missing).unwrap_err().code(), Code::NodeNotFound, "{missing}");
        }
    }

    #[test]
    fn a_guest_sees_what_names_it() {
        let sees = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
            is_seen_by_guest(&patterns, &name("anna"))
        };
        assert!(sees(&["study@anna"]) && sees(&["hall", "*@anna"]));
        assert!(!sees(&[]) && !sees(&["anna"]) && !sees(&["*"]) && !sees(&["*@annas", "@anna"]));
    }

    #[test]
    fn the_nodes_of_one_device_are_bounded() {
        let mut known = nodes(&["a"]);
        let many = (0..=MOST_NODES).map(|number| (name(&format!("n-{number}")), node(1))).collect();
        assert_eq!(apply(&mut known, true, many, &[]).unwrap_err().code(), Code::LimitExceeded);
        assert_eq!(known, nodes(&["a"]));
    }

    fn state() -> impl Strategy<Value = Nodes> {
        let node = (0_u64..3).prop_map(node);
        proptest::collection::btree_map("[a-d]".prop_map(|text| name(&text)), node, 0..4)
    }

    proptest! {
        #[test]
        fn changes_lead_from_one_state_to_the_next(states in proptest::collection::vec(state(), 1..6)) {
            let mut told = Nodes::new();
            apply(&mut told, true, states[0].clone().into_iter().collect(), &[]).unwrap();
            for step in states.windows(2) {
                let Change { here, gone } = difference(&step[0], &step[1]);
                apply(&mut told, false, here, &gone).unwrap();
                prop_assert_eq!(&told, &step[1]);
            }
        }
    }
}
