//! The names that the line editor can offer: nodes, modules with their signatures, live instances.
//!
//! In: the handle of a node. Out: names from the memory of the node. A task asks gpmd for the names of nodes,
//! and a key waits for it only briefly. Must not know: the typed text.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime;

use super::signature::Signature;
use gvm_host::index::{Entry, Index};
use gvm_host::{Handle, Name, NodeName, Place, parse_version};

/// How long a key may wait for the names of nodes: gpmd usually answers in a millisecond.
const PATIENCE: Duration = Duration::from_millis(60);

/// How long gpmd may take before the request is given up.
const ANSWER: Duration = Duration::from_secs(2);

/// The names that are known now. Plain data.
#[derive(Clone, Default)]
pub struct Known {
    pub index: Arc<Index>,
    pub instances: Vec<(Name, Place)>,
    pub nodes: Nodes,
}

/// The names of the known nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nodes {
    pub own: Option<NodeName>,
    pub live: Vec<NodeName>,
    pub connected: Vec<NodeName>,
}

/// The source of `Known`. Cheap to clone; clones share the names of nodes.
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
    /// Returns the names that this node knows. Requests run on this runtime.
    pub fn of(node: Handle, runtime: runtime::Handle) -> Names {
        let asked =
            Asked { nodes: Nodes { own: Some(node.name().clone()), ..Nodes::default() }, asking: false };
        Names(Arc::new(Inner { node, runtime, asked: Mutex::new(asked), told: Condvar::new() }))
    }

    /// Returns modules and instances, without waiting.
    pub(super) fn modules(&self) -> Known {
        Known {
            index: self.0.node.runner().modules().index(),
            instances: self.0.node.instances(),
            nodes: Nodes::default(),
        }
    }

    /// Returns modules, instances and nodes. Nodes may be outdated if gpmd is slow.
    pub(super) fn all(&self) -> Known {
        Known { nodes: self.nodes(), ..self.modules() }
    }

    fn nodes(&self) -> Nodes {
        let mut asked = lock(&self.0.asked);
        let begun = Instant::now();
        // If the last request has no answer yet, gpmd is slow: do not wait for it again.
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
    /// Returns the stored module of this name, or the module of the live instance of this name.
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

    /// Returns the functions of this module.
    pub fn functions(&self, name: &str, version: Option<&str>) -> Vec<Signature<'_>> {
        let Some(entry) = self.entry(name, version) else { return Vec::new() };
        let all = entry.exports.iter().filter_map(|line| Signature::read(line));
        all.map(|function| function.with(&entry.types)).collect()
    }

    /// Returns the function at a path such as `math.add` or `math.iface.add`; `None` if several match.
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
        // A function of the component itself hides functions of its interfaces.
        let root = found.iter().position(|function| interface.is_none() && function.interface.is_none());
        match (root, found.len()) {
            (Some(root), _) => Some(found[root]),
            (None, 1) => found.pop(),
            _ => None,
        }
    }

    /// Returns whether this is the name of a module or a live instance.
    pub fn is_callable(&self, name: &str) -> bool {
        self.entry(name, None).is_some()
    }
}
