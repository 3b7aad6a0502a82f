//! The accept policy: which nodes may connect.
//!
//! In: the policy, the names whose sessions were revoked, the name of a node that wants to connect. Out: yes,
//! a denial, or that a person must decide. Pure. Must not know: how the node was authenticated, which happens
//! before; how a person is asked (`questions.rs`).

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;

/// A node's accept policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// Every node of this home.
    #[default]
    All,
    None,
    Only(BTreeSet<Name>),
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
    revoked: BTreeSet<Name>,
}

impl Gatekeeper {
    pub fn new(policy: Accept) -> Gatekeeper {
        Gatekeeper { policy, revoked: BTreeSet::new() }
    }

    /// Decides whether the node with this name may connect to `me`.
    pub fn judge(&self, asking: &Name, me: &Name) -> Verdict {
        let yes = match &self.policy {
            // A person decides again, also about a node that was revoked.
            Accept::Ask => return Verdict::Ask,
            _ if self.revoked.contains(asking) => {
                let denied = denied(format!("`{me}` has revoked the session of `{asking}`"));
                let help = format!("ask the person at `{me}` to run `Node.connect({asking})` there");
                return Verdict::No(denied.with_help(help));
            }
            Accept::All => true,
            Accept::None => false,
            Accept::Only(names) => names.contains(asking),
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
    pub fn revoke(&mut self, name: &Name) {
        self.revoked.insert(name.clone());
    }

    /// Cancels [`Gatekeeper::revoke`], because a person here connects to the node with this name.
    pub fn readmit(&mut self, name: &Name) {
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

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn keeper(policy: &str) -> Gatekeeper {
        Gatekeeper::new(policy.parse().unwrap())
    }

    #[test]
    fn policies() {
        let accepts = |policy: &str, asking| keeper(policy).judge(&name(asking), &name("me")) == Verdict::Yes;
        assert!(accepts("all", "a"));
        assert!(!accepts("none", "a"));
        assert!(accepts("a, c", "a"));
        assert!(!accepts("a,c", "b"));
        assert_eq!(keeper("ask").judge(&name("a"), &name("me")), Verdict::Ask);
        assert!("A".parse::<Accept>().is_err());
    }

    #[test]
    fn a_revoked_node_is_denied_until_it_is_readmitted() {
        let (a, me) = (name("a"), name("me"));
        for policy in ["all", "a,b"] {
            let mut keeper = keeper(policy);
            keeper.revoke(&a);
            let Verdict::No(denied) = keeper.judge(&a, &me) else {
                panic!("{policy} accepts a revoked node")
            };
            assert_eq!(denied.code(), Code::ConnectionDenied);
            assert_eq!(keeper.judge(&name("b"), &me), Verdict::Yes);
            keeper.readmit(&a);
            assert_eq!(keeper.judge(&a, &me), Verdict::Yes);
        }
        let mut asks = keeper("ask");
        asks.revoke(&a);
        assert_eq!(asks.judge(&a, &me), Verdict::Ask, "a person decides again");
    }
}
