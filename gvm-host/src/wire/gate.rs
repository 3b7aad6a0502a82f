//! A limit on how much runs at once.
//!
//! In: requests to enter. Out: passes, or `OVERLOADED`. Pure. Must not know: what the passes are used for.

use std::cell::Cell;
use std::rc::Rc;

use crate::base::error::{Code, Error, Result};

/// A limit on how much runs at once. Clones share one count; belongs to one thread.
#[derive(Clone, Debug)]
pub struct Gate {
    free: Rc<Cell<usize>>,
    most: usize,
}

/// One of the places of a [`Gate`]; dropping it frees the place.
#[derive(Debug)]
pub struct Pass(Rc<Cell<usize>>);

impl Gate {
    /// Creates a gate with this many places.
    pub fn new(most: usize) -> Gate {
        Gate { free: Rc::new(Cell::new(most)), most }
    }

    /// Takes a place without waiting. `what` is a plural noun for the message.
    ///
    /// # Errors
    /// `OVERLOADED` if every place is taken.
    pub fn enter(&self, what: &str) -> Result<Pass> {
        match self.free.get().checked_sub(1) {
            Some(free) => {
                self.free.set(free);
                Ok(Pass(self.free.clone()))
            }
            None => {
                let sentence = format!("too many {what}: the limit is {} at a time", self.most);
                Err(Error::new(Code::Overloaded, sentence).with_help("wait and try again"))
            }
        }
    }

    /// Returns how many places are taken.
    pub fn inside(&self) -> usize {
        self.most - self.free.get()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
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
