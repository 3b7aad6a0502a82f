//! A limit on how much runs at once.
//!
//! In: requests to enter. Out: passes, or `OVERLOADED`. Pure. Must not know: what the passes are used for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::error::{Code, Error, Result};

/// A limit on how much runs at once. Clones share one count; `Send + Sync`.
#[derive(Clone, Debug)]
pub struct Gate {
    free: Arc<AtomicUsize>,
    most: usize,
}

/// Places of a [`Gate`]; dropping it frees them.
#[derive(Debug)]
pub struct Pass {
    free: Arc<AtomicUsize>,
    places: usize,
}

impl Gate {
    /// Creates a gate with this many places.
    pub fn new(most: usize) -> Gate {
        Gate { free: Arc::new(AtomicUsize::new(most)), most }
    }

    /// Takes a place without waiting. `what` is a plural noun for the message.
    ///
    /// # Errors
    /// `OVERLOADED` if every place is taken.
    pub fn enter(&self, what: &str) -> Result<Pass> {
        self.take(1).ok_or_else(|| {
            let sentence = format!("too many {what}: the limit is {} at a time", self.most);
            Error::new(Code::Overloaded, sentence).with_help("wait and try again")
        })
    }

    /// Takes several places without waiting; `None` if fewer are free.
    pub fn take(&self, places: usize) -> Option<Pass> {
        let free = &self.free;
        let taken = free.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |free| free.checked_sub(places));
        taken.ok().map(|_| Pass { free: free.clone(), places })
    }

    /// Returns how many places are taken.
    pub fn inside(&self) -> usize {
        self.most - self.free.load(Ordering::Acquire)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.free.fetch_add(self.places, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_counts() {
        let gate = Gate::new(1);
        let pass = gate.enter("calls").unwrap();
        assert_eq!(gate.clone().enter("calls").unwrap_err().code(), Code::Overloaded);
        drop(pass);
        assert!(gate.enter("calls").is_ok());
    }
}
