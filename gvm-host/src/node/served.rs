//! Runs the calls of one peer on this node.
//!
//! In: calls, and the peer's rights. Out: their outcomes. Must not know: sessions, sockets.

use std::future::ready;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;

use super::live::{Instances, Reserved};
use super::runner::{Caller, Runner};
use crate::base::device::DeviceId;
use crate::base::error::{Code, Error, Result};
use crate::base::id::{Hash, Name};
use crate::base::limits::{self, Limits};
use crate::base::value::FuncType;
use crate::call::rights::Rights;
use crate::call::stdio::Stdio;
use crate::call::{Call, ModuleRef, Outcome, Target};
use crate::peer::service::{Asked, Keep, Reserve, Service, Started};

/// One peer of this node.
pub struct Served {
    runner: Runner,
    caller: Caller,
    /// Whether it may bring modules of its own.
    foreign: bool,
}

impl Served {
    /// Returns a peer with these rights and no instances. `foreign` allows it to bring modules of its own.
    pub fn new(runner: Runner, rights: Rights, device: Option<DeviceId>, foreign: bool) -> Served {
        let compiling = Some(Arc::new(Semaphore::new(limits::compilers_per_peer())));
        let (held, share) =
            (Instances::of_peer(runner.shares().live().clone()), runner.shares().of_peer(device));
        Served { runner, caller: Caller { held, rights, compiling, share: Some(share), device }, foreign }
    }
}

impl Service for Served {
    fn limits(&self) -> Limits {
        self.runner.limits()
    }

    fn rights(&self) -> &Rights {
        &self.caller.rights
    }

    fn run(&self, call: Call, stdio: Stdio) -> Started {
        let limits = self.runner.limits().narrow(call.limits);
        let runner = self.runner.clone();
        match self.runner.prepare_now(&self.caller.rights, &call.target, &limits) {
            Some(Err(error)) => Started { run: Box::pin(ready(Outcome::failed(error))), is_fast: true },
            Some(Ok(prepared)) => {
                let (is_fast, share) = (prepared.is_fast(), self.caller.share.clone());
                let run = Box::pin(async move { runner.run_prepared(prepared, call, stdio, share).await });
                Started { run, is_fast }
            }
            None => {
                let caller = self.caller.clone();
                let is_fast = runner.is_fast_live(&caller, &call.target);
                let run = Box::pin(async move { runner.run(&caller, call, stdio).await });
                Started { run, is_fast }
            }
        }
    }

    fn describe(&self, target: Target, limits: Limits, began: Instant) -> Asked<(Hash, Option<FuncType>)> {
        let (runner, caller) = (self.runner.clone(), self.caller.clone());
        Box::pin(async move { runner.describe(&caller, &target, limits, began).await })
    }

    fn reserve(&self, name: Name) -> Result<Arc<dyn Reserve>> {
        let place = Arc::new(self.caller.held.reserve(name)?);
        Ok(Arc::new(Place { runner: self.runner.clone(), caller: self.caller.clone(), place }))
    }

    fn instances(&self) -> Vec<(Name, String)> {
        self.caller.held.list()
    }

    fn drop_instance(&self, name: &Name) -> Result<()> {
        self.caller.held.remove(name)
    }

    fn place(&self, target: &mut Target) -> Result<()> {
        let what = match &target.module {
            ModuleRef::Pinned { name, hash } => match self.runner.modules().version_of(name, *hash) {
                Some(version) => {
                    target.module = ModuleRef::Stored { name: name.clone(), version: Some(version) };
                    return Ok(());
                }
                None => format!("`{name}`, which this device has not or with other bytes"),
            },
            ModuleRef::Bytes(_) | ModuleRef::Loaded(_) => "a module that is sent to it".to_owned(),
            ModuleRef::Stored { .. } | ModuleRef::Instance(_) => return Ok(()),
        };
        match self.foreign {
            true => Ok(()),
            false => Err(Error::new(
                Code::NotPermitted,
                format!("this node runs only modules of its own device, not {what}"),
            )
            .with_help("upload the module on that device, or start the node without `--modules own`")),
        }
    }

    fn clear(&self) {
        self.caller.held.clear();
    }
}

/// The place of an instance that is being made for this peer.
struct Place {
    runner: Runner,
    caller: Caller,
    place: Arc<Reserved>,
}

impl Reserve for Place {
    fn make(&self, target: Target, limits: Limits, began: Instant) -> Asked<Keep> {
        let (runner, caller, place) = (self.runner.clone(), self.caller.clone(), self.place.clone());
        Box::pin(async move {
            let made = runner.make(&caller, &target, limits, began).await?;
            let keep: Keep = Box::new(move || place.fill(made));
            Ok(keep)
        })
    }
}
