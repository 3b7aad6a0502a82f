//! What must happen before `main`: finds out which standard streams were closed when the program started, and chooses the
//! size of memory pages.
//!
//! In: descriptors 0 to 2. Out: a call of [`stdio::was_closed`] for each closed one; small pages, until the program asks
//! for huge ones. Must not know: what the streams are for.
//!
//! The standard library replaces closed streams by `/dev/null` before `main`, so that no file gets their
//! numbers. After that, writing to them seems to succeed. So this module looks before the standard library
//! does. The allocator asks for huge pages (2 MiB) with its first allocation. An idle gpmd would hold five of them,
//! nearly empty; a short command would take a millisecond more, because the kernel clears each page that it touches.

use std::sync::atomic::{AtomicU8, Ordering};

use gvm_cli::repl::stdio;
use rustix::stdio::{stderr, stdin, stdout};

static CLOSED: AtomicU8 = AtomicU8::new(0);

/// The loader calls this function before the standard library starts.
// SAFETY: this section contains only addresses of functions of this type. `look` does not depend on the
// set-up of the standard library: it makes system calls and stores a byte.
#[used]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
static BEFORE_MAIN: extern "C" fn() = look;

extern "C" fn look() {
    for (number, stream) in [stdin(), stdout(), stderr()].into_iter().enumerate() {
        if rustix::io::fcntl_getfd(stream).is_err() {
            CLOSED.fetch_or(1 << number, Ordering::Relaxed);
        }
    }
    small_pages(true);
}

/// Allows huge pages from here on, for a program whose large values should cross faster.
#[allow(dead_code, reason = "gpmd keeps small pages")]
pub fn huge_pages() {
    small_pages(false);
}

/// Sets whether this process gets only small pages. The compilers that it starts inherit the setting; they take the
/// same time with it.
fn small_pages(only: bool) {
    #[cfg(target_os = "linux")]
    {
        let (only, unused): (libc::c_ulong, libc::c_ulong) = (only.into(), 0);
        // SAFETY: this operation of `prctl` takes numbers. If the kernel refuses it, nothing changes.
        let _ = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, only, unused, unused, unused) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = only;
}

/// Tells [`stdio`] which streams were closed.
pub fn tell() {
    let closed = CLOSED.load(Ordering::Relaxed);
    (0..3).filter(|number| closed & (1 << number) != 0).for_each(stdio::was_closed);
}
