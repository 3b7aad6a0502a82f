//! What belongs to one store: the guest's WASI context, what it is granted, and what it holds.
//!
//! In: grants, limits. Out: the state that every host function is called with; the growth that a limit
//! stopped. Must not know: what the guest is called for.

use rustix::io::Errno;
use wasmtime::ResourceLimiter;
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p1::WasiP1Ctx;

use super::net::Net;
use super::nodes::{INTERFACE, NetworkAccess};
use super::p1::Listings;
use crate::base::error::{Code, Error, Result};
use crate::base::limits;

/// What belongs to one store: the guest's WASI context and its limits.
pub struct State {
    wasi: WasiP1Ctx,
    /// The network of nodes, where it is granted.
    reach: Option<NetworkAccess>,
    /// What sockets may reach.
    net: Net,
    /// What of folders a guest of preview 1 lists.
    listings: Listings,
    pub(crate) limiter: Limiter,
}

impl State {
    /// The state of an instance that may hold `most` bytes of memory.
    pub(crate) fn new(wasi: WasiP1Ctx, reach: Option<NetworkAccess>, net: Net, most: u64) -> State {
        let limiter = Limiter { most, held: 0, adding: 0, refused: None };
        State { wasi, reach, net, listings: Listings::default(), limiter }
    }

    /// Gives the next call its own access to the network of nodes.
    pub(crate) fn turn(&mut self, reach: Option<NetworkAccess>) {
        self.reach = reach;
    }

    pub(crate) fn wasi(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }

    pub(crate) fn listings(&mut self) -> &mut Listings {
        &mut self.listings
    }

    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    /// The network of nodes.
    ///
    /// # Errors
    /// `NOT_PERMITTED` where the guest's node does not grant it.
    pub(crate) fn reach(&self) -> Result<&NetworkAccess> {
        self.reach.as_ref().ok_or_else(|| {
            Error::new(
                Code::NotPermitted,
                format!(
                    "the module uses {INTERFACE}, which its node does not grant: start it with --grant nodes"
                ),
            )
        })
    }
}

/// Counts what a store's guests hold, all together.
pub(crate) struct Limiter {
    most: u64,
    held: u64,
    /// What the growth that was permitted last added, should it fail after all.
    adding: u64,
    /// The first growth that was refused: why a guest that traps afterwards did so.
    pub refused: Option<Refused>,
}

/// A growth that a limit stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refused {
    Memory {
        asked: u64,
        most: u64,
    },
    Table {
        asked: usize,
    },
    /// Within the limits; the system had no more.
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

    /// A growth that fails by the guest's own doing, or the system's: nothing is held for it.
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
        // Beyond the guest's own maximum it fails by its own doing.
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
        // A pooled table's maximum is the pool's, not its own, where it is that large.
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

/// Whether the system refused memory, or another mapping of it: to this process, whatever the guest asked for.
pub(crate) fn out_of_memory(error: &wasmtime::Error) -> bool {
    error.is::<wasmtime::OutOfMemory>()
        || error.chain().any(|cause| {
            let errno = cause.downcast_ref::<Errno>().copied();
            let errno = errno.or_else(|| cause.downcast_ref().and_then(Errno::from_io_error));
            errno == Some(Errno::NOMEM)
        })
}
