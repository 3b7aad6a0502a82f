//! A node as the rest of this crate sees it: what names mean to it, and the way by which calls reach it.
//!
//! In: what a person wrote; calls. Out: targets, what the home's copy of a module says of itself, outcomes.
//! Nodes of one home share its modules, so a signature holds for the home's other nodes too. Must not know:
//! Python.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gvm_host::Handle;
use gvm_host::Stdio;
use gvm_host::inspect;
use gvm_host::inspect::{Kind, ModuleInfo};
use gvm_host::limits::{CALLS_PER_SESSION, POOL};
use gvm_host::parse;
use gvm_host::parse::Expr;
use gvm_host::{Call, ModuleRef, Outcome, Target};
use gvm_host::{Code, Error, Result};
use gvm_host::{Hash, Name};
use tokio::sync::Semaphore;

/// How many modules' signatures are kept.
const KEPT: usize = 128;

/// A node, with the signatures of the modules that it was asked for. Cheap to clone.
#[derive(Clone)]
pub struct Core(Arc<Inner>);

struct Inner {
    handle: Handle,
    /// Set when the node is told to end: nothing new begins on it.
    closed: AtomicBool,
    known: Mutex<HashMap<Hash, Arc<ModuleInfo>>>,
    /// The calls that may begin here.
    here: Turns,
    /// The calls that may begin on each other node, by its name.
    there: Mutex<HashMap<Name, Turns>>,
}

/// How many calls of this node one node has at once; the rest wait, the longest wait first. Within what a session
/// takes, and half of what the process that runs them has room for: it may serve others too.
const AT_ONCE: usize =
    if CALLS_PER_SESSION < POOL as usize / 2 { CALLS_PER_SESSION } else { POOL as usize / 2 };

/// The calls that may begin on one node.
type Turns = Arc<Semaphore>;

/// Where a call runs.
#[derive(Clone)]
pub struct Place {
    /// None is here.
    pub node: Option<Name>,
    turns: Turns,
}

/// A module as it stands in the home now.
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

    /// Notes that the node is about to end.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    /// Whether the node was told to end.
    pub fn closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// Where calls of this node run that name this place; None is here.
    pub fn place(&self, node: Option<Name>) -> Place {
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

    /// Runs a call, when its turn comes. Dropping the future cancels it.
    pub async fn run(&self, place: Place, call: Call, stdio: Stdio) -> Outcome {
        // A call that another call waits for does not wait for that one's turn to end.
        let turn = match call.above.is_empty() {
            true => Some(place.turns.acquire().await),
            false => None,
        };
        let outcome = self.handle().run(place.node, call, stdio).await;
        drop(turn);
        outcome
    }

    /// The node's handle.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// The hash that a module has now, where that is known without waiting.
    pub fn hash_now(&self, module: &ModuleRef) -> Option<Hash> {
        let ModuleRef::Stored { name, version } = module else { return None };
        self.0.handle.runner().modules().resolve_now(name, version.as_ref())
    }

    /// The module, if all of it is known without waiting.
    pub fn find_now(&self, module: &ModuleRef) -> Option<Found> {
        let hash = self.hash_now(module)?;
        let info = self.0.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash)?.clone();
        Some(Found { hash, info })
    }

    /// The module, read from the home where need be.
    ///
    /// # Errors
    /// `MODULE_NOT_FOUND` with the near names, `MODULE_CORRUPT`, `MODULE_INVALID`.
    pub async fn find(&self, module: &ModuleRef) -> Result<Found> {
        if let Some(found) = self.find_now(module) {
            return Ok(found);
        }
        let ModuleRef::Stored { name, version } = module else {
            return Err(Error::internal("only stored modules are looked up by name"));
        };
        let modules = self.0.handle.runner().modules();
        let hash = modules.resolve(name, version.as_ref()).await?.hash;
        let bytes = modules.read(hash).await?;
        let mut info = tokio::task::spawn_blocking(move || inspect::inspect(&bytes))
            .await
            .map_err(|error| Error::internal(error.to_string()))??;
        if info.kind == Kind::Core {
            // What runs by itself is no function to call.
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

    /// Turns the name of a live instance into the instance, and the place into where it lives.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND` where it lives on another node than the one that was named.
    pub fn find_instance(&self, target: &mut Target, place: Option<Name>) -> Result<Place> {
        let ModuleRef::Stored { name, version: None } = &target.module else { return Ok(self.place(place)) };
        let Some(lives) = self.0.handle.instance(name) else { return Ok(self.place(place)) };
        if place.is_some() && place != lives.node {
            let message =
                format!("`{name}` lives on `{}`", lives.node.as_ref().unwrap_or(self.0.handle.name()));
            return Err(Error::new(Code::InstanceNotFound, message));
        }
        target.module = ModuleRef::Instance(name.clone());
        Ok(self.place(lives.node))
    }
}

/// What a person wrote for a call, as `module`, `module.function` or `module.function(args)`.
///
/// # Errors
/// `SYNTAX`.
pub fn read(text: &str) -> Result<Expr> {
    parse::target(text).or_else(|error| {
        // The arguments may stand elsewhere than in parentheses here.
        let Ok(expr) = parse::target(&format!("{text}()")) else { return Err(error) };
        Ok(Expr { args: None, ..expr })
    })
}

/// What a person wrote for a module: its name, and its version where they chose one.
///
/// # Errors
/// `SYNTAX`.
pub fn read_module(text: &str) -> Result<ModuleRef> {
    match read(text)? {
        Expr { target: Target { module, interface: None, function: None }, args: None, .. } => Ok(module),
        _ => Err(Error::new(
            Code::Syntax,
            format!("{text:?} is no module: names look like `math` or `math@1.0.0`"),
        )),
    }
}

/// A node's name, where the call is to run elsewhere than here.
///
/// # Errors
/// `SYNTAX`.
pub fn read_place(handle: &Handle, place: Option<&str>) -> Result<Option<Name>> {
    let place = place.map(str::parse::<Name>).transpose()?;
    Ok(place.filter(|place| place != handle.name()))
}
