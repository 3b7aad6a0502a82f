//! Gives the memory that the program has freed back to the system.
//!
//! In: nothing. Out: a thread that runs as long as the program. Must not know: who freed the memory.
//!
//! The allocator keeps freed memory for a second, because the next value may need it. It gives the memory back when a thread
//! allocates after that. In a program that does nothing after a large value, no thread does.

use std::time::Duration;

/// How often memory is given back that was freed more than a second ago.
const PACE: Duration = Duration::from_millis(500);

/// Starts the thread. A program that confines itself does that first: the thread is confined only if it starts later.
pub fn give_back() {
    let giving = std::thread::Builder::new().name("memory".into()).stack_size(64 << 10).spawn(|| {
        loop {
            std::thread::sleep(PACE);
            // SAFETY: the allocator allows this call on every thread.
            unsafe { libmimalloc_sys::mi_collect(false) };
        }
    });
    if let Err(error) = giving {
        tracing::warn!(%error, "freed memory is not given back to the system: cannot start a thread");
    }
}
