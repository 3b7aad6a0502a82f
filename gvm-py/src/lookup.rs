//! What a name means to this node before anything is sent: the module, its functions, their signatures.
//!
//! In: what a person wrote. Out: targets, and what the home's copy of the module says of itself. Nodes of
//! one home share its modules, so this holds for its other nodes too. Must not know: Python.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use gvm_host::call::{ModuleRef, Target};
use gvm_host::engine::inspect::{self, Kind, ModuleInfo};
use gvm_host::error::{Code, Error, Result};
use gvm_host::id::{Hash, Name};
use gvm_host::node::Handle;
use gvm_host::repl::parse::{self, Expr};

/// How many modules' signatures are kept.
const KEPT: usize = 128;

/// A node, with the signatures of the modules that it was asked for. Cheap to clone.
#[derive(Clone)]
pub struct Core(Arc<Inner>);

struct Inner {
    handle: Handle,
    known: Mutex<HashMap<Hash, Arc<ModuleInfo>>>,
}

/// A module as it stands in the home now.
#[derive(Clone)]
pub struct Found {
    pub hash: Hash,
    pub info: Arc<ModuleInfo>,
}

impl Core {
    pub fn new(handle: Handle) -> Core {
        Core(Arc::new(Inner { handle, known: Mutex::default() }))
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
    pub fn find_instance(&self, target: &mut Target, place: Option<Name>) -> Result<Option<Name>> {
        let ModuleRef::Stored { name, version: None } = &target.module else { return Ok(place) };
        let Some(lives) = self.0.handle.instance(name) else { return Ok(place) };
        if place.is_some() && place != lives.node {
            let message =
                format!("`{name}` lives on `{}`", lives.node.as_ref().unwrap_or(self.0.handle.name()));
            return Err(Error::new(Code::InstanceNotFound, message));
        }
        target.module = ModuleRef::Instance(name.clone());
        Ok(lives.node)
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
