//! Who may connect.
//!
//! In: what a person chose, the name of a node that asks. Out: yes, or a denial in words. Pure. Must not
//! know: how the asking node was authenticated; that is done before.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::error::{Code, Error, Result};
use crate::id::Name;

/// A node's accept policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// Every node of this home.
    #[default]
    All,
    None,
    Only(BTreeSet<Name>),
}

impl FromStr for Accept {
    type Err = Error;

    fn from_str(text: &str) -> Result<Accept> {
        match text {
            "all" => Ok(Accept::All),
            "none" => Ok(Accept::None),
            names => {
                names.split(',').map(|name| name.trim().parse()).collect::<Result<_>>().map(Accept::Only)
            }
        }
    }
}

impl Accept {
    /// Whether the node of this name may connect to `me`.
    ///
    /// # Errors
    /// `CONNECTION_DENIED`.
    pub fn judge(&self, asking: &Name, me: &Name) -> Result<()> {
        let yes = match self {
            Accept::All => true,
            Accept::None => false,
            Accept::Only(names) => names.contains(asking),
        };
        if yes {
            return Ok(());
        }
        Err(Error::new(
            Code::ConnectionDenied,
            format!("`{me}` does not accept `{asking}`: its --accept policy decides"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let (a, b, me) = ("a".parse().unwrap(), "b".parse().unwrap(), "me".parse().unwrap());
        let accepts = |policy: &str, name| policy.parse::<Accept>().unwrap().judge(name, &me).is_ok();
        assert!(accepts("all", &a));
        assert!(!accepts("none", &a));
        assert!(accepts("a, c", &a));
        assert!(!accepts("a,c", &b));
        assert!("A".parse::<Accept>().is_err());
    }
}
