//! Who dials this node: what it says of itself, held against gpmd's registry.
//!
//! In: what a node that dials says, and its ticket. Out: whether it is that node. While gpmd is away nodes
//! that were known before may come back; nobody else can be told from anybody. Must not know: the accept
//! policy, which judges by the name that was found true here.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use crate::base::error::{Code, Error, Result};
use crate::base::id::{Life, Name, NodeInfo, Secret};
use crate::gpmd::witness::Witness;

/// Lives that are remembered; beyond it all are forgotten, and known again by gpmd's word.
const MOST: usize = 4096;

/// How long gpmd may be away before who dials is told so: it may be starting again.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// Tells who is who. Cheap to clone; belongs to the node's thread.
#[derive(Clone)]
pub struct Vouch {
    witness: Witness,
    known: Rc<RefCell<HashSet<(Life, Name)>>>,
}

impl Vouch {
    /// One that asks this witness.
    pub fn new(witness: Witness) -> Vouch {
        Vouch { witness, known: Rc::default() }
    }

    /// A ticket for a node that is dialled, which gpmd knows: it may dial this one later.
    pub async fn introduce(&self, to: NodeInfo) -> Option<Secret> {
        self.remember(&to);
        let ticket = self.witness.introduce(&to).await;
        ticket.inspect_err(|error| tracing::debug!("{} is dialled without a ticket: {error}", to.name)).ok()
    }

    /// Whether the node that dials is the one that it says it is.
    ///
    /// # Errors
    /// `CONNECTION_DENIED` where it is not, or nothing shows it.
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
            None if self.witness.is_up() => Err(denied(&asking, "it shows no ticket of gpmd")),
            None => Err(denied(&asking, "gpmd is away, and this node has not known it before")),
        };
        match found {
            Ok(node) if node.name == asking.name && node.life() == asking.life() => {
                self.remember(&asking);
                Ok(())
            }
            Ok(node) => Err(denied(&asking, &format!("gpmd knows it as `{}`", node.name))),
            // It went away while it was asked.
            Err(error) if error.code() == Code::GpmdNotRunning && self.knows(&asking) => Ok(()),
            Err(error) if error.code() == Code::ConnectionDenied => Err(error),
            Err(error) => Err(denied(&asking, error.message())),
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
    Error::new(
        Code::ConnectionDenied,
        format!("nothing shows that the node that dials is `{}`: {why}", asking.name),
    )
}
