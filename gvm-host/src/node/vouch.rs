//! Verifies the identity of nodes that connect, by asking gpmd.
//!
//! In: the identity that a node claims, and its ticket. Out: whether the claim is true. Must not know: the
//! accept policy, which relies on the verified name. While gpmd is away, only nodes that were verified before
//! can connect.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use crate::base::error::{Code, Error, Result};
use crate::base::id::{Life, Name, NodeInfo, Secret};
use crate::gpmd::witness::Witness;

/// The most verified nodes that are remembered. Beyond it, all are forgotten; gpmd can verify them again.
const MOST: usize = 4096;

/// How long to wait for gpmd before a node is denied, because gpmd may be restarting.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// Verifies nodes, and gets tickets for this node. Cheap to clone; belongs to the node's thread.
#[derive(Clone)]
pub struct Vouch {
    witness: Witness,
    known: Rc<RefCell<HashSet<(Life, Name)>>>,
}

impl Vouch {
    /// Returns a verifier that asks gpmd through this witness.
    pub fn new(witness: Witness) -> Vouch {
        Vouch { witness, known: Rc::default() }
    }

    /// Returns a ticket for the node that this one dials. gpmd knows that node, so it may connect here later.
    pub async fn introduce(&self, to: NodeInfo) -> Option<Secret> {
        self.remember(&to);
        let ticket = self.witness.introduce(&to).await;
        ticket.inspect_err(|error| tracing::debug!("dialling {} without a ticket: {error}", to.name)).ok()
    }

    /// Checks that the node that connects is the one that it claims to be.
    ///
    /// # Errors
    /// `CONNECTION_DENIED` if it is not, or if that cannot be verified.
    pub async fn identify(&self, asking: NodeInfo, ticket: Option<Secret>) -> Result<()> {
        if !self.witness.is_up() {
            if self.knows(&asking) {
                return Ok(());
            }
            let back = async {
                while !self.witness.is_up() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            let _ = tokio::time::timeout(PATIENCE, back).await;
        }
        let found = match ticket {
            Some(ticket) => self.witness.identify(ticket).await,
            None if self.witness.is_up() => Err(denied(&asking, "it has no ticket from gpmd")),
            None => Err(denied(&asking, "no gpmd answers in this home").with_help("run `gpmd start`")),
        };
        match found {
            Ok(node) if node.name == asking.name && node.life() == asking.life() => {
                self.remember(&asking);
                Ok(())
            }
            Ok(node) => Err(denied(&asking, &format!("gpmd knows it as `{}`", node.name))),
            // gpmd went away during the request.
            Err(error) if error.code() == Code::GpmdNotRunning && self.knows(&asking) => Ok(()),
            Err(error) if error.code() == Code::ConnectionDenied => Err(error),
            Err(error) => {
                let denied = denied(&asking, error.message());
                Err(match error.help() {
                    Some(help) => denied.with_help(help.to_owned()),
                    None => denied,
                })
            }
        }
    }

    fn knows(&self, node: &NodeInfo) -> bool {
        self.known.borrow().contains(&(node.life(), node.name.clone()))
    }

    fn remember(&self, node: &NodeInfo) {
        let mut known = self.known.borrow_mut();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert((node.life(), node.name.clone()));
    }
}

fn denied(asking: &NodeInfo, why: &str) -> Error {
    Error::new(Code::ConnectionDenied, format!("the identity of `{}` cannot be verified: {why}", asking.name))
}
