//! A value that a process makes once, although making it can fail.
//!
//! In: a way to make the value. Out: the one value, from any thread. Must not know: what the value is.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::error::Result;

/// A value that is made on first use. Threads that want it meanwhile wait, so that none makes a second one, which would
/// have to be dropped: a runtime must not be dropped in a task, and an engine leaves a thread behind.
pub struct Once<T> {
    made: OnceLock<T>,
    making: Mutex<()>,
}

impl<T> Once<T> {
    /// Returns a place for a value.
    pub const fn new() -> Once<T> {
        Once { made: OnceLock::new(), making: Mutex::new(()) }
    }

    /// Returns the value, and makes it if there is none.
    ///
    /// # Errors
    /// Those of `make`; the next use tries again.
    pub fn get_or_make(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let made = make()?;
        Ok(self.made.get_or_init(|| made))
    }
}
