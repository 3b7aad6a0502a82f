//! The data of one store: the guest's WASI context, its grants, and the memory that it uses.
//!
//! In: grants, limits. Out: the state for every host function, and the growth that a limit refused. Must not know: the
//! call that runs in the guest.

use rustix::io::Errno;
use wasmtime::ResourceLimiter;
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};
use wasmtime_wasi_http::WasiHttpCtxView;

use super::Grants;
use super::http::Http;
use super::keyvalue::{self, Keyvalue};
use super::net::Net;
use super::nodes::{INTERFACE, NetworkAccess};
use super::p1::Listings;
use crate::base::error::{Code, Error, Result};
use crate::base::limits;

/// The data of one store. wasmtime passes it to every host function.
pub struct State {
    wasi: WasiP1Ctx,
    /// Access to the network of nodes, if it is granted.
    reach: Option<Box<NetworkAccess>>,
    /// The addresses that sockets may use.
    net: Net,
    http: Http,
    /// What `wasi:keyvalue` may use.
    keyvalue: Keyvalue,
    config: WasiConfigVariables,
    /// The open listings of a guest of preview 1.
    listings: Listings,
    pub(crate) limiter: Limiter,
}

impl State {
    /// Creates the state of an instance that may use `most` bytes of memory.
    pub(crate) fn new(
        mut wasi: WasiP1Ctx,
        reach: Option<Box<NetworkAccess>>,
        grants: &Grants,
        keyvalue: Keyvalue,
        most: u64,
    ) -> State {
        wasi.ctx().table.set_max_capacity(limits::host_resources());
        let limiter = Limiter { most, held: 0, adding: 0, refused: None };
        let net = grants.net.clone();
        let http = Http::new(net.clone(), grants.authorities.clone());
        let config = grants.config.iter().cloned().collect();
        State { wasi, reach, net, http, keyvalue, config, listings: Listings::default(), limiter }
    }

    /// Prepares the next call: its access to the network of nodes.
    pub(crate) fn turn(&mut self, reach: Option<Box<NetworkAccess>>) {
        self.reach = reach;
        // A refusal explains a trap of the call in which it happened, and of no later one.
        self.limiter.refused = None;
    }

    pub(crate) fn wasi(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }

    pub(crate) fn listings(&mut self) -> &mut Listings {
        &mut self.listings
    }

    /// Returns what `wasi:http` works with.
    pub(crate) fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.http.view(self.wasi.ctx().table)
    }

    /// Returns what `wasi:keyvalue` works with.
    pub(crate) fn keyvalue(&mut self) -> keyvalue::View<'_> {
        self.keyvalue.view(self.wasi.ctx().table)
    }

    /// Returns what `wasi:config` works with.
    pub(crate) fn config(&mut self) -> WasiConfig<'_> {
        WasiConfig::from(&self.config)
    }

    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    /// Returns the access to the network of nodes.
    ///
    /// # Errors
    /// `NOT_PERMITTED` if the guest's node does not grant it.
    pub(crate) fn reach(&self) -> Result<&NetworkAccess> {
        self.reach.as_deref().ok_or_else(|| {
            let message = format!("the module uses `{INTERFACE}`, which its node does not grant");
            Error::new(Code::NotPermitted, message).with_help("start that node with `--grant nodes`")
        })
    }
}

/// Counts the memory of a store: all its memories and tables together.
pub(crate) struct Limiter {
    most: u64,
    held: u64,
    /// What the last permitted growth added, in case it fails after all.
    adding: u64,
    /// The first growth that was refused. It explains a trap that follows.
    pub refused: Option<Refused>,
}

/// A refused growth.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    Memory {
        asked: u64,
        most: u64,
    },
    Table {
        asked: usize,
    },
    /// The growth was within the limits, but the system had no more memory.
    System,
}

impl Limiter {
    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let adding = desired.saturating_sub(current) as u64;
        let grown = self.held.saturating_add(adding);
        if grown > self.most {
            self.refused.get_or_insert(Refused::Memory { asked: grown, most: self.most });
            return false;
        }
        self.held = grown;
        self.adding = adding;
        true
    }

    /// Undoes a permitted growth that failed, because of the guest's own maximum or of the system.
    fn grow_nothing(&mut self, error: &wasmtime::Error) {
        if out_of_memory(error) {
            self.refused.get_or_insert(Refused::System);
        }
        self.held -= std::mem::take(&mut self.adding);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        most: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.adding = 0;
        // Beyond the guest's own maximum the growth fails without us.
        Ok(most.is_some_and(|most| desired > most) || self.grow(current, desired))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.grow_nothing(&error);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        most: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.adding = 0;
        // A maximum this large may be that of the pool and not of the table.
        if most.is_some_and(|most| desired > most && most < limits::TABLE_ELEMENTS) {
            return Ok(true);
        }
        if desired > limits::TABLE_ELEMENTS {
            self.refused.get_or_insert(Refused::Table { asked: desired });
            return Ok(false);
        }
        Ok(self.grow(current * size_of::<usize>(), desired * size_of::<usize>()))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.grow_nothing(&error);
        Ok(())
    }

    fn instances(&self) -> usize {
        limits::INSTANCES
    }

    fn tables(&self) -> usize {
        limits::TABLES
    }

    fn memories(&self) -> usize {
        limits::MEMORIES
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> wasmtime_wasi::WasiCtxView<'_> {
        self.wasi().ctx()
    }
}

/// Whether the system refused memory, or another mapping, to this process. This is not a limit of the guest.
pub(crate) fn out_of_memory(error: &wasmtime::Error) -> bool {
    error.is::<wasmtime::OutOfMemory>() || from_system(error, &[Errno::NOMEM])
}

/// Returns whether one of these errors of the system is the cause of the error, or of one of its causes.
pub(crate) fn from_system(error: &wasmtime::Error, any: &[Errno]) -> bool {
    error.chain().any(|cause| {
        let errno = cause.downcast_ref::<Errno>().copied();
        let errno = errno.or_else(|| cause.downcast_ref().and_then(Errno::from_io_error));
        errno.is_some_and(|errno| any.contains(&errno))
    })
}
