//! Which standard streams were closed before the program began.
//!
//! In: descriptors 0 to 2, before `main`. Out: word to [`stdio`]. The standard library opens `/dev/null` in
//! the place of a closed stream, before `main`, so that no file takes its number; afterwards what is
//! written there seems to arrive. Must not know: what the streams are for.

use std::sync::atomic::{AtomicU8, Ordering};

use gvm_cli::repl::stdio;
use rustix::stdio::{stderr, stdin, stdout};

static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Run by the loader, before the standard library has begun.
// SAFETY: the section holds addresses of functions of this kind and nothing else; `look` needs nothing of
// the standard library's set-up: it asks the kernel and stores a byte.
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
}

/// Hands on what was seen.
pub fn tell() {
    let closed = CLOSED.load(Ordering::Relaxed);
    (0..3).filter(|number| closed & (1 << number) != 0).for_each(stdio::was_closed);
}
