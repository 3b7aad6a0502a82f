//! A node as the rest of this crate uses it: it resolves names and runs calls.
//!
//! In: text of targets; calls. Out: parsed targets, modules of the home with their signatures, outcomes. The
//! nodes of a home share its modules, so a signature is valid for all of them. Must not know: Python.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gvm_host::inspect::{Kind, ModuleInfo};
use gvm_host::limits::{CALLS_PER_SESSION, POOL};
use gvm_host::parse::Expr;
use gvm_host::{
    Call, Code, Error, Handle, Hash, ModuleRef, NodeName, Outcome, Result, Stdio, Target, inspect, parse,
};
use tokio::sync::Semaphore;

/// How many modules a node caches.
const KEPT: usize = 128;

/// A node, and the modules that were looked up on it. Cheap to clone.
#[derive(Clone)]
pub struct Core(Arc<Inner>);

struct Inner {
    handle: Handle,
    /// Set when the node is told to end. Nothing new starts on it then.
    closed: AtomicBool,
    known: Mutex<HashMap<Hash, Arc<ModuleInfo>>>,
    /// Bounds the calls that run on this node.
    here: Turns,
    /// Bounds the calls that run on each other node, by its name.
    there: Mutex<HashMap<NodeName, Turns>>,
}

/// How many calls this node runs on one node at once; further calls wait in order. A session must accept them,
/// and they may use half of the instances of the process that runs them, which may have other callers too.
const AT_ONCE: usize =
    if CALLS_PER_SESSION < POOL as usize / 2 { CALLS_PER_SESSION } else { POOL as usize / 2 };

/// The free slots for calls on one node.
type Turns = Arc<Semaphore>;

/// Where a call runs.
#[derive(Clone)]
pub struct Place {
    /// None means this node.
    pub node: Option<NodeName>,
    turns: Turns,
}

/// A module of the home.
#[derive(Clone)]
pub struct Found {
    pub hash: Hash,
    pub info: Arc<ModuleInfo>,
}

impl Core {
    pub fn new(handle: Handle) -> Core {
        Core(Arc::new(Inner {
            handle,
            closed: AtomicBool::new(false),
            known: Mutex::default(),
            here: Arc::new(Semaphore::new(AT_ONCE)),
            there: Mutex::default(),
        }))
    }

    /// Records that the node is told to end.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    /// Returns whether the node was told to end.
    pub fn closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// Returns the place for calls on a node. None means this node.
    pub fn place(&self, node: Option<NodeName>) -> Place {
        let turns = match &node {
            None => self.0.here.clone(),
            Some(node) => {
                let mut there = self.0.there.lock().unwrap_or_else(PoisonError::into_inner);
                let known = there.get(node).cloned();
                known.unwrap_or_else(|| {
                    let turns = Arc::new(Semaphore::new(AT_ONCE));
                    there.insert(node.clone(), turns.clone());
                    turns
                })
            }
        };
        Place { node, turns }
    }

    /// Runs a call when a slot is free. Dropping the future cancels the call.
    pub async fn run(&self, place: Place, call: Call, stdio: Stdio) -> Outcome {
        // A nested call takes no slot: the call that waits for it may hold the last one.
        let turn = match call.above.is_empty() {
            true => match place.turns.try_acquire() {
                Ok(turn) => Some(Ok(turn)),
                Err(_) => Some(place.turns.acquire().await),
            },
            false => None,
        };
        // Pinned where it is: it is large, and to move it takes time.
        let outcome = pin!(self.handle().run(place.node, call, stdio)).await;
        drop(turn);
        outcome
    }

    /// Returns the node's handle.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Returns the current hash of a module, if it is known without waiting.
    pub fn hash_now(&self, module: &ModuleRef) -> Option<Hash> {
        let ModuleRef::Stored { name, version } = module else { return None };
        self.0.handle.runner().modules().resolve_now(name, version.as_ref())
    }

    /// Returns a module, if it is known without waiting.
    pub fn find_now(&self, module: &ModuleRef) -> Option<Found> {
        let hash = self.hash_now(module)?;
        let info = self.0.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash)?.clone();
        Some(Found { hash, info })
    }

    /// Returns a module, and reads it from the home if necessary.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND` with similar names, `MODULE_CORRUPT`, `MODULE_INVALID`.
    pub async fn find(&self, module: &ModuleRef) -> Result<Found> {
        if let Some(found) = self.find_now(module) {
            return Ok(found);
        }
        let ModuleRef::Stored { name, version } = module else {
            return Err(Error::internal("only stored modules can be looked up by name"));
        };
        let modules = self.0.handle.runner().modules();
        let hash = modules.resolve(name, version.as_ref()).await?.hash;
        let bytes = modules.read(hash).await?;
        let mut info = tokio::task::spawn_blocking(move || inspect::inspect(&bytes))
            .await
            .map_err(|error| Error::internal(error.to_string()))??;
        if info.kind == Kind::Core {
            // These run by themselves and cannot be called as functions.
            info.exports.retain(|export| !matches!(export.name.as_str(), "_start" | "_initialize"));
        }
        let info = Arc::new(info);
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(hash, info.clone());
        Ok(Found { hash, info })
    }

    /// Replaces the name of a live instance in a target by the instance, and returns the place of the
    /// instance.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND` if the instance is on another node than the one that was named.
    pub fn find_instance(&self, target: &mut Target, place: Option<NodeName>) -> Result<Place> {
        Ok(self.place(self.0.handle.find_instance(target, place)?))
    }
}

/// Reads a target: `module`, `module.function` or `module.function(args)`.
///
/// # Errors
/// `SYNTAX`.
pub fn read(text: &str) -> Result<Expr> {
    parse::target(text).or_else(|error| {
        // Here the arguments may be missing, because Python passes them separately.
        let Ok(expr) = parse::target(&format!("{text}()")) else { return Err(error) };
        Ok(Expr { args: None, ..expr })
    })
}

/// Reads the name of a module, with a version if there is one.
///
/// # Errors
/// `SYNTAX`.
pub fn read_module(text: &str) -> Result<ModuleRef> {
    match read(text)? {
        Expr { target: Target { module, interface: None, function: None }, args: None, .. } => Ok(module),
        _ => Err(Error::new(Code::Syntax, format!("{text:?} is not the name of a module"))
            .with_help("write a name such as `math` or `math@1.0.0`")),
    }
}

/// Reads the name of a node. Returns None if that is this node.
///
/// # Errors
/// `SYNTAX`.
pub fn read_place(handle: &Handle, place: Option<&str>) -> Result<Option<NodeName>> {
    let place = place.map(str::parse::<NodeName>).transpose()?;
    Ok(handle.other(place))
}
