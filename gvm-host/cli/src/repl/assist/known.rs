//! What the line editor knows of a node: nodes, modules with their signatures, live instances.
//!
//! In: a node's handle. Out: names at once, from what the node has in memory; only the names of nodes are
//! asked for, by a task of its own, and waited for briefly. Must not know: what is being typed.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime;

use super::signature::Signature;
use gvm_host::Handle;
use gvm_host::Place;
use gvm_host::index::{Entry, Index};
use gvm_host::{Name, parse_version};

/// How long a key may wait for the names of nodes: gpmd answers in a millisecond where it is well.
const PATIENCE: Duration = Duration::from_millis(60);

/// How long gpmd may take before it is no longer waited for.
const ANSWER: Duration = Duration::from_secs(2);

/// What is known now. Plain data.
#[derive(Clone, Default)]
pub struct Known {
    pub index: Arc<Index>,
    pub instances: Vec<(Name, Place)>,
    pub nodes: Nodes,
}

/// The nodes, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nodes {
    pub own: Option<Name>,
    pub live: Vec<Name>,
    pub connected: Vec<Name>,
}

/// Where `Known` comes from. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct Names(Arc<Inner>);

struct Inner {
    node: Handle,
    runtime: runtime::Handle,
    asked: Mutex<Asked>,
    told: Condvar,
}

#[derive(Default)]
struct Asked {
    nodes: Nodes,
    /// Whether a task is asking now.
    asking: bool,
}

impl Names {
    /// What this node knows; what has to be asked for is asked on this runtime.
    pub fn of(node: Handle, runtime: runtime::Handle) -> Names {
        let asked =
            Asked { nodes: Nodes { own: Some(node.name().clone()), ..Nodes::default() }, asking: false };
        Names(Arc::new(Inner { node, runtime, asked: Mutex::new(asked), told: Condvar::new() }))
    }

    /// Modules and instances, at once.
    pub(super) fn modules(&self) -> Known {
        Known {
            index: self.0.node.runner().modules().index(),
            instances: self.0.node.instances(),
            nodes: Nodes::default(),
        }
    }

    /// Nodes too: as they are now where that can be learned quickly, else as they were last.
    pub(super) fn all(&self) -> Known {
        Known { nodes: self.nodes(), ..self.modules() }
    }

    fn nodes(&self) -> Nodes {
        let mut asked = lock(&self.0.asked);
        let begun = Instant::now();
        // Where the last question has no answer yet, gpmd is slow: nobody waits for it twice.
        if !asked.asking {
            asked.asking = true;
            self.0.runtime.spawn(ask(self.0.clone()));
            while asked.asking {
                let Some(left) = PATIENCE.checked_sub(begun.elapsed()) else { break };
                let waited = self.0.told.wait_timeout(asked, left);
                asked = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        asked.nodes.clone()
    }
}

async fn ask(inner: Arc<Inner>) {
    let answered = tokio::time::timeout(ANSWER, async {
        (inner.node.discover().await.ok(), inner.node.list().await.ok())
    });
    let (live, connected) = answered.await.unwrap_or_default();
    let names = |nodes: Vec<gvm_host::NodeInfo>| nodes.into_iter().map(|node| node.name).collect();
    let mut asked = lock(&inner.asked);
    if let Some(connected) = connected {
        asked.nodes.connected = names(connected);
    }
    if let Some(live) = live {
        asked.nodes.live = names(live);
    }
    asked.asking = false;
    inner.told.notify_all();
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// The stored module that a name means, or that the live instance of this name was made from.
    pub fn entry(&self, name: &str, version: Option<&str>) -> Option<&Entry> {
        let made_from = self.instances.iter().find(|(instance, _)| instance.as_str() == name);
        let title = made_from.map(|(_, place)| place.module.as_str());
        let (name, version) = match title {
            Some(title) => {
                title.split_once('@').map_or((title, None), |(name, version)| (name, Some(version)))
            }
            None => (name, version),
        };
        let module = self.index.modules.iter().find(|(stored, _)| stored.as_str() == name)?.1;
        match version {
            Some(version) => module.versions.get(&parse_version(version).ok()?),
            None => module.chosen().map(|(_, entry)| entry),
        }
    }

    /// Its functions.
    pub fn functions(&self, name: &str, version: Option<&str>) -> Vec<Signature<'_>> {
        let Some(entry) = self.entry(name, version) else { return Vec::new() };
        let all = entry.exports.iter().filter_map(|line| Signature::read(line));
        all.map(|function| function.with(&entry.types)).collect()
    }

    /// The function that a path of parts means: `math.add`, `math.iface.add`; none where several are meant.
    pub fn function(&self, parts: &[&str], version: Option<&str>) -> Option<Signature<'_>> {
        let (module, interface, name) = match parts {
            [module, name] => (*module, None, *name),
            [module, interface, name] => (*module, Some(*interface), *name),
            _ => return None,
        };
        let kebab = name.replace('_', "-");
        let mut found = self.functions(module, version);
        found.retain(|function| {
            (function.name == name || function.name == kebab)
                && interface.is_none_or(|interface| {
                    function.is_of(interface) || function.is_of(&interface.replace('_', "-"))
                })
        });
        // The root's own function hides those of interfaces.
        let root = found.iter().position(|function| interface.is_none() && function.interface.is_none());
        match (root, found.len()) {
            (Some(root), _) => Some(found[root]),
            (None, 1) => found.pop(),
            _ => None,
        }
    }

    /// Whether this is the name of something that can be called.
    pub fn is_callable(&self, name: &str) -> bool {
        self.entry(name, None).is_some()
    }
}
