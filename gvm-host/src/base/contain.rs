//! Panics of libraries that read hostile bytes, contained.
//!
//! In: work that may panic. Out: what it gave, or none. What the panic said goes to the log, and not to the
//! terminal. Must not know: which library it is.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives; none where it panicked. What it was changing must not be used after that.
pub fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |said| match CONTAINED.get() {
            true => tracing::debug!("contained: {said}"),
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
    fn a_panic_is_none_and_others_are_told_as_ever() {
        assert_eq!(contained(|| 1), Some(1));
        assert_eq!(contained(|| contained(|| -> u8 { unreachable!("inner") }).is_none()), Some(true));
        assert!(!CONTAINED.get());
    }
}
