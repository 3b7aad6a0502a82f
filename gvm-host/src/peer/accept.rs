//! Who may connect.
//!
//! In: what a person chose, whom they turned away, the name of a node that asks. Out: yes, a denial in
//! words, or that a person is to be asked. Pure. Must not know: how the asking node was authenticated,
//! which is done before; how a person is asked (`questions.rs`).

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
    /// Whom a person allows, each time.
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

/// What is to become of a node that asks.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    Yes,
    Ask,
    No(Error),
}

/// The policy, and whose session was revoked since.
#[derive(Debug, Default)]
pub struct Gatekeeper {
    policy: Accept,
    revoked: BTreeSet<Name>,
}

impl Gatekeeper {
    pub fn new(policy: Accept) -> Gatekeeper {
        Gatekeeper { policy, revoked: BTreeSet::new() }
    }

    /// Whether the node of this name may connect to `me`.
    pub fn judge(&self, asking: &Name, me: &Name) -> Verdict {
        let yes = match &self.policy {
            // Being asked, a person decides anew.
            Accept::Ask => return Verdict::Ask,
            _ if self.revoked.contains(asking) => {
                return Verdict::No(denied(format!(
                    "`{me}` has revoked the session of `{asking}`: its person admits it again with \
                     Node.connect({asking}) there"
                )));
            }
            Accept::All => true,
            Accept::None => false,
            Accept::Only(names) => names.contains(asking),
        };
        match yes {
            true => Verdict::Yes,
            false => {
                Verdict::No(denied(format!("`{me}` does not accept `{asking}`: its --accept policy decides")))
            }
        }
    }

    /// From now on the node of this name may not come back by itself.
    pub fn revoke(&mut self, name: &Name) {
        self.revoked.insert(name.clone());
    }

    /// A person wants the node of this name after all.
    pub fn readmit(&mut self, name: &Name) {
        self.revoked.remove(name);
    }
}

/// The error of whoever may not connect.
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
    fn the_revoked_do_not_come_back_by_themselves() {
        let (a, me) = (name("a"), name("me"));
        for policy in ["all", "a,b"] {
            let mut keeper = keeper(policy);
            keeper.revoke(&a);
            let Verdict::No(denied) = keeper.judge(&a, &me) else { panic!("{policy} accepts the revoked") };
            assert_eq!(denied.code(), Code::ConnectionDenied);
            assert_eq!(keeper.judge(&name("b"), &me), Verdict::Yes);
            keeper.readmit(&a);
            assert_eq!(keeper.judge(&a, &me), Verdict::Yes);
        }
        let mut asks = keeper("ask");
        asks.revoke(&a);
        assert_eq!(asks.judge(&a, &me), Verdict::Ask, "a person decides anew");
    }
}
