//! The functions of WASI preview 1 that differ from wasmtime's: listing folders, and exiting.
//!
//! In: a guest's calls of `fd_readdir`, `fd_close`, `fd_renumber` and `proc_exit`. Out: wasmtime's results, with two
//! differences: a listing shows the folder as it was when the listing started, and a guest may exit with any status.
//! Must not know: the caller.
//!
//! wasmtime's `fd_readdir` lists the folder again at each call and uses the cookie as an index into the new list. So a
//! guest that removes listed files misses as many others, and a large folder is read once per buffer of the guest.
//! Here the first call (cookie 0) takes a snapshot.

use std::collections::HashMap;

use wasmtime::{Caller, Extern, Linker};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p1::types::{Errno, Error as P1Error, Fd};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::{GuestMemory, GuestPtr};

use crate::base::error::{Code, Error};
use crate::base::limits;
use crate::imports::nodes::Denied;
use crate::imports::state::State;

/// The module names of preview 1 and preview 0. The functions defined here are the same in both.
const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// The size of an entry's header: the next cookie, an inode, the name's length, a kind and padding.
const HEAD: usize = 24;

/// The snapshots of folders, by the guest's descriptor.
#[derive(Debug, Default)]
pub(crate) struct Listings(HashMap<u32, Listing>);

/// A whole listing in the format of `fd_readdir`.
#[derive(Debug)]
struct Listing {
    bytes: Vec<u8>,
    /// The offset of each entry.
    entries: Vec<usize>,
}

impl Listing {
    fn of(bytes: Vec<u8>) -> Listing {
        let mut entries = Vec::new();
        let mut at = 0;
        while let Some(name) = bytes.get(at + 16..at + 20) {
            entries.push(at);
            at += HEAD + name.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
        }
        Listing { bytes, entries }
    }

    /// Returns the entries after the cookie, which counts entries; nothing past the end.
    fn from(&self, cookie: u64) -> &[u8] {
        let at = usize::try_from(cookie).ok().and_then(|index| self.entries.get(index));
        at.map_or(&[], |at| &self.bytes[*at..])
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<usize>()
    }
}

/// Replaces wasmtime's functions.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    for module in MODULES {
        linker.func_wrap_async(
            module,
            "fd_readdir",
            |mut caller: Caller<'_, State>, (fd, to, most, cookie, count): (i32, i32, i32, i64, i32)| {
                Box::new(async move {
                    let listed = list(&mut caller, fd.cast_unsigned(), cookie.cast_unsigned()).await;
                    match listed {
                        Ok(()) => {
                            let guests = [to, most, count].map(i32::cast_unsigned);
                            hand_over(&mut caller, fd.cast_unsigned(), cookie.cast_unsigned(), guests)?;
                            Ok(Errno::Success as i32)
                        }
                        Err(error) => Ok(error.downcast()? as i32),
                    }
                })
            },
        )?;
        linker.func_wrap_async(module, "fd_close", |mut caller: Caller<'_, State>, (fd,): (i32,)| {
            Box::new(async move {
                let state = caller.data_mut();
                state.listings().0.remove(&fd.cast_unsigned());
                let closed = state
                    .wasi()
                    .fd_close(&mut GuestMemory::Unshared(&mut []), Fd::from(fd.cast_unsigned()))
                    .await;
                errno(closed)
            })
        })?;
        linker.func_wrap_async(
            module,
            "fd_renumber",
            |mut caller: Caller<'_, State>, (from, to): (i32, i32)| {
                Box::new(async move {
                    let state = caller.data_mut();
                    let (from, to) = (from.cast_unsigned(), to.cast_unsigned());
                    let done = state
                        .wasi()
                        .fd_renumber(&mut GuestMemory::Unshared(&mut []), Fd::from(from), Fd::from(to))
                        .await;
                    if done.is_ok() && from != to {
                        match state.listings().0.remove(&from) {
                            Some(listing) => state.listings().0.insert(to, listing),
                            None => state.listings().0.remove(&to),
                        };
                    }
                    errno(done)
                })
            },
        )?;
        linker.func_wrap(module, "proc_exit", |status: i32| -> wasmtime::Result<()> {
            Err(I32Exit(status).into())
        })?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

fn errno(done: Result<(), P1Error>) -> wasmtime::Result<i32> {
    match done {
        Ok(()) => Ok(Errno::Success as i32),
        Err(error) => Ok(error.downcast()? as i32),
    }
}

/// Makes sure that there is a snapshot of the descriptor's folder. Takes a new one if the guest starts a listing, or
/// continues one that it started with another descriptor.
async fn list(caller: &mut Caller<'_, State>, fd: u32, cookie: u64) -> Result<(), P1Error> {
    let state = caller.data_mut();
    if cookie != 0 && state.listings().0.contains_key(&fd) {
        return Ok(());
    }
    state.listings().0.remove(&fd);
    let held: usize = state.listings().0.values().map(Listing::size).sum();
    let mut most = 32 << 10;
    loop {
        let mut bytes = vec![0; most];
        let memory = &mut GuestMemory::Unshared(&mut bytes);
        let size = u32::try_from(most).map_err(|_| Errno::Overflow)?;
        let count = state.wasi().fd_readdir(memory, Fd::from(fd), GuestPtr::new(0), size, 0).await?;
        let limit = || {
            let all = limits::LISTINGS >> 20;
            let message = format!("the guest has open listings of more than {all} MiB");
            P1Error::trap(Denied(Error::new(Code::LimitExceeded, message)).into())
        };
        // If the buffer is full, the last entry may be incomplete.
        if count < size {
            bytes.truncate(count as usize);
            bytes.shrink_to_fit();
            let listing = Listing::of(bytes);
            if held + listing.size() > limits::LISTINGS {
                return Err(limit());
            }
            state.listings().0.insert(fd, listing);
            return Ok(());
        }
        if most >= limits::LISTINGS {
            return Err(limit());
        }
        most = (most * 8).min(limits::LISTINGS);
    }
}

/// Writes as much of the listing as fits into the guest's buffer, and the number of bytes.
fn hand_over(
    caller: &mut Caller<'_, State>,
    fd: u32,
    cookie: u64,
    [to, most, count]: [u32; 3],
) -> wasmtime::Result<()> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::msg("the module does not export its `memory`"));
    };
    let (memory, state) = memory.data_and_store_mut(caller);
    let listings = state.listings();
    let left = listings.0.get(&fd).map_or(&[][..], |listing| listing.from(cookie));
    let part = &left[..left.len().min(most as usize)];
    let fault = || wasmtime::Error::msg("a pointer of `fd_readdir` is out of bounds");
    let buffer = (to as usize).checked_add(part.len()).and_then(|end| memory.get_mut(to as usize..end));
    buffer.ok_or_else(fault)?.copy_from_slice(part);
    let written = (count as usize).checked_add(4).and_then(|end| memory.get_mut(count as usize..end));
    written.ok_or_else(fault)?.copy_from_slice(&(part.len() as u32).to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(next: u64, name: &str) -> Vec<u8> {
        let mut bytes = next.to_le_bytes().to_vec();
        bytes.extend([0; 8]);
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend([4, 0, 0, 0]);
        bytes.extend(name.as_bytes());
        bytes
    }

    #[test]
    fn a_cookie_counts_entries() {
        let all = [entry(1, "."), entry(2, ".."), entry(3, &"x".repeat(300))];
        let listing = Listing::of(all.concat());
        assert_eq!(listing.entries.len(), 3);
        assert_eq!(listing.from(0), all.concat());
        assert_eq!(listing.from(2), all[2]);
        for end in [3, 4, u64::MAX] {
            assert!(listing.from(end).is_empty());
        }
        assert!(Listing::of(Vec::new()).entries.is_empty());
    }
}
