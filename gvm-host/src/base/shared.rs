//! State that clones share, and that is allocated when it is first used or cloned.
//!
//! In: nothing. Out: one value for all clones. A call makes its pipes this way, because most calls never write or read
//! them. Must not know: what the state is.

use std::sync::{Arc, OnceLock};

/// A value that all clones share. Creating one allocates nothing.
pub struct Shared<T>(OnceLock<Arc<T>>);

impl<T: Default> Shared<T> {
    /// Returns the value.
    pub fn get(&self) -> &T {
        self.0.get_or_init(Arc::default)
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Shared<T> {
        Shared(OnceLock::new())
    }
}

impl<T: Default> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(OnceLock::from(Arc::clone(self.0.get_or_init(Arc::default))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn clones_share_what_is_used_later() {
        let one = Shared::<Mutex<u8>>::default();
        assert!(one.0.get().is_none());
        let other = one.clone();
        *one.get().lock().unwrap() = 7;
        assert_eq!(*other.get().lock().unwrap(), 7);
        assert_eq!(*other.clone().get().lock().unwrap(), 7);
    }
}
