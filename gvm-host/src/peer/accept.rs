//! The accept policy: which nodes may connect.
//!
//! In: the policy, the names whose sessions were revoked, the name of a node that wants to connect, and whether its device is
//! a guest. Out: yes, a denial, or that a person must decide. Pure. Must not know: how the node was authenticated, which happens
//! before; how a person is asked (`questions.rs`).

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::base::device::{NodeName, NodePattern};
use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;

/// A node's accept policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// Every node of the network, but for those of guests.
    #[default]
    All,
    None,
    Only(BTreeSet<NodePattern>),
    /// A person decides each time.
    Ask,
}

impl FromStr for Accept {
    type Err = Error;

    fn from_str(text: &str) -> Result<Accept> {
        match text {
            "all" => Ok(Accept::All),
            "none" => Ok(Accept::None),
            "ask" => Ok(Accept::Ask),
            names => {
                names.split(',').map(|name| name.trim().parse()).collect::<Result<_>>().map(Accept::Only)
            }
        }
    }
}

impl Accept {
    /// Returns the patterns by which the policy names nodes.
    pub fn names(&self) -> Vec<String> {
        match self {
            Accept::Only(patterns) => patterns.iter().map(NodePattern::to_string).collect(),
            Accept::All | Accept::None | Accept::Ask => Vec::new(),
        }
    }
}

/// A node that wants to connect.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    pub name: &'a NodeName,
    /// Whether its device is a guest of the network: then the policy must name it.
    pub guest: bool,
}

/// The decision about a node that wants to connect.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    Yes,
    Ask,
    No(Error),
}

/// The policy, and the nodes whose sessions were revoked.
#[derive(Debug, Default)]
pub struct Gatekeeper {
    policy: Accept,
    revoked: BTreeSet<NodeName>,
}

impl Gatekeeper {
    pub fn new(policy: Accept) -> Gatekeeper {
        Gatekeeper { policy, revoked: BTreeSet::new() }
    }

    /// Decides whether a node may connect to `me`, a node of the device `own`.
    pub fn judge(&self, asking: &Asking<'_>, me: &NodeName, own: Option<&Name>) -> Verdict {
        let Asking { name: asking, guest } = *asking;
        let yes = match &self.policy {
            Accept::All | Accept::Ask if guest => false,
            // A person decides again, also about a node that was revoked.
            Accept::Ask => return Verdict::Ask,
            _ if self.revoked.contains(asking) => {
                let denied = denied(format!("`{me}` has revoked the session of `{asking}`"));
                let help = format!("ask the person at `{me}` to run `Node.connect({asking})` there");
                return Verdict::No(denied.with_help(help));
            }
            Accept::All => true,
            Accept::None => false,
            Accept::Only(patterns) => patterns.iter().any(|pattern| pattern.names(asking, own)),
        };
        match yes {
            true => Verdict::Yes,
            false => {
                let denied = denied(format!("`{me}` does not accept connections from `{asking}`"));
                let help = format!("start `{me}` with an `--accept` policy that allows `{asking}`");
                Verdict::No(denied.with_help(help))
            }
        }
    }

    /// Denies the node with this name from now on, unless a person decides otherwise.
    pub fn revoke(&mut self, name: &NodeName) {
        self.revoked.insert(name.clone());
    }

    /// Cancels [`Gatekeeper::revoke`], because a person here connects to the node with this name.
    pub fn readmit(&mut self, name: &NodeName) {
        self.revoked.remove(name);
    }
}

/// The error of a node that may not connect.
pub fn denied(sentence: String) -> Error {
    Error::new(Code::ConnectionDenied, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn keeper(policy: &str) -> Gatekeeper {
        Gatekeeper::new(policy.parse().unwrap())
    }

    fn judge(keeper: &Gatekeeper, name: &NodeName) -> Verdict {
        keeper.judge(&Asking { name, guest: false }, &"me".parse().unwrap(), Some(&"laptop".parse().unwrap()))
    }

    #[test]
    fn a_guest_must_be_named() {
        let a = name("a@pi");
        let accepts = |policy: &str| {
            let asking = Asking { name: &a, guest: true };
            keeper(policy).judge(&asking, &name("me"), None) == Verdict::Yes
        };
        assert!(accepts("a@pi") && accepts("b,*@pi"));
        assert!(
            !accepts("all") && !accepts("ask") && !accepts("none") && !accepts("a") && !accepts("*@other")
        );
    }

    #[test]
    fn policies() {
        let accepts = |policy: &str, asking| judge(&keeper(policy), &name(asking)) == Verdict::Yes;
        assert!(accepts("all", "a"));
        assert!(!accepts("none", "a"));
        assert!(accepts("a, c", "a"));
        assert!(!accepts("a,c", "b"));
        assert!(accepts("a@pi", "a@pi") && accepts("*@pi", "b@pi") && accepts("all", "b@pi"));
        assert!(!accepts("a", "a@pi"), "a name alone is that of a node of this device");
        assert_eq!(judge(&keeper("ask"), &name("a")), Verdict::Ask);
        assert!("A".parse::<Accept>().is_err());
    }

    #[test]
    fn a_revoked_node_is_denied_until_it_is_readmitted() {
        let a = name("a");
        for policy in ["all", "a,b"] {
            let mut keeper = keeper(policy);
            keeper.revoke(&a);
            let Verdict::No(denied) = judge(&keeper, &a) else { panic!("{policy} accepts a revoked node") };
            assert_eq!(denied.code(), Code::ConnectionDenied);
            assert_eq!(judge(&keeper, &name("b")), Verdict::Yes);
            keeper.readmit(&a);
            assert_eq!(judge(&keeper, &a), Verdict::Yes);
        }
        let mut asks = keeper("ask");
        asks.revoke(&a);
        assert_eq!(judge(&asks, &a), Verdict::Ask, "a person decides again");
    }
}
