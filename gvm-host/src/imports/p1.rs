//! What WASI preview 1 does otherwise than wasmtime's: listing folders, and leaving.
//!
//! In: a guest's calls of `fd_readdir`, `fd_close`, `fd_renumber` and `proc_exit`. Out: wasmtime's answers,
//! but that a listing tells what was there when it began, and that any status may be left with. Must not
//! know: whose guest it is.
//!
//! wasmtime's `fd_readdir` lists the folder anew at each call and takes the cookie for an index into that:
//! a guest that removes what it has listed misses as much of the rest, and a large folder is read as often as
//! the guest's buffer fits into it. Here the first call (cookie 0) takes a snapshot.

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

/// The names under which programs import it: preview 1, and preview 0, whose functions of these names
/// are the same.
const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// The head of an entry: the next cookie, an inode, the name's length, a kind and padding.
const HEAD: usize = 24;

/// What folders held when their listings began, by the guest's descriptor.
#[derive(Debug, Default)]
pub(crate) struct Listings(HashMap<u32, Listing>);

/// A whole listing as the guest's `fd_readdir` has it.
#[derive(Debug)]
struct Listing {
    bytes: Vec<u8>,
    /// Where each entry begins.
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

    /// What follows the cookie, which counts entries; nothing past the end.
    fn from(&self, cookie: u64) -> &[u8] {
        let at = usize::try_from(cookie).ok().and_then(|index| self.entries.get(index));
        at.map_or(&[], |at| &self.bytes[*at..])
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<usize>()
    }
}

/// Defines them in the place of wasmtime's.
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

/// Has a listing of the folder that the descriptor means: a new one where the guest begins to list, or goes
/// on with what it had begun under another number.
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
            let message = format!("the guest lists folders of more than {all} MiB at once");
            P1Error::trap(Denied(Error::new(Code::LimitExceeded, message)).into())
        };
        // A buffer that is full may have cut the last entry.
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

/// Writes as much of the listing as fits into the guest's buffer, and how much that is.
fn hand_over(
    caller: &mut Caller<'_, State>,
    fd: u32,
    cookie: u64,
    [to, most, count]: [u32; 3],
) -> wasmtime::Result<()> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::msg("missing required memory export"));
    };
    let (memory, state) = memory.data_and_store_mut(caller);
    let listings = state.listings();
    let left = listings.0.get(&fd).map_or(&[][..], |listing| listing.from(cookie));
    let part = &left[..left.len().min(most as usize)];
    let fault = || wasmtime::Error::msg("a pointer of `fd_readdir` lies out of bounds");
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
