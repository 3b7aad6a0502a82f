//! The connected nodes, for callers on any thread.
//!
//! In: connections as they begin and end, from the node's thread. Out: the line to a node. Must not know: how calls
//! cross.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::base::device::{NodeName, meant};
use crate::peer::line::Line;

/// The line to each connected node. Clones share them.
#[derive(Clone, Default)]
pub struct Lines(Arc<RwLock<BTreeMap<NodeName, Arc<Line>>>>);

impl Lines {
    /// Returns the line to the node with this name, if one is connected and no other one has it.
    pub fn get(&self, name: &NodeName) -> Option<Arc<Line>> {
        let lines = self.0.read().unwrap_or_else(PoisonError::into_inner);
        meant(&lines, name).ok().flatten().map(|(_, line)| line.clone())
    }

    /// Returns the line to the node with exactly this name.
    pub fn exactly(&self, name: &NodeName) -> Option<Arc<Line>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Sets the line to a node; none if it is no longer connected.
    pub fn set(&self, name: &NodeName, line: Option<Arc<Line>>) {
        let mut lines = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match line {
            Some(line) => drop(lines.insert(name.clone(), line)),
            None => drop(lines.remove(name)),
        }
    }

    /// Removes all lines.
    pub fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
