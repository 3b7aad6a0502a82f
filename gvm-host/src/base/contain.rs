//! Catches panics of libraries that read hostile bytes.
//!
//! In: a closure that may panic. Out: its result, or `None`. The panic message goes to the log, not to the
//! terminal. Must not know: which library panics.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` and returns its result, or `None` if it panics. After a panic, do not use what `work` was
/// changing.
pub fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |said| match CONTAINED.get() {
            true => tracing::debug!("caught a panic: {said}"),
            false => usual(said),
        }));
    });
    struct Within(bool);
    impl Drop for Within {
        fn drop(&mut self) {
            CONTAINED.set(self.0);
        }
    }
    let _within = Within(CONTAINED.replace(true));
    panic::catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_returns_none_and_later_panics_are_reported_as_usual() {
        assert_eq!(contained(|| 1), Some(1));
        assert_eq!(contained(|| contained(|| -> u8 { unreachable!("inner") }).is_none()), Some(true));
        assert!(!CONTAINED.get());
    }
}
