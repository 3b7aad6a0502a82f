//! How much may be under way at once.
//!
//! In: who asks to enter. Out: places, or `OVERLOADED`. Pure. Must not know: what enters.

use std::cell::Cell;
use std::rc::Rc;

use crate::base::error::{Code, Error, Result};

/// How much may be under way at once. Clones count together; belongs to one thread.
#[derive(Clone, Debug)]
pub struct Gate {
    free: Rc<Cell<usize>>,
    most: usize,
}

/// A place behind a [`Gate`], free again when dropped.
#[derive(Debug)]
pub struct Pass(Rc<Cell<usize>>);

impl Gate {
    /// A gate that lets this many in.
    pub fn new(most: usize) -> Gate {
        Gate { free: Rc::new(Cell::new(most)), most }
    }

    /// Takes a place, at once or not at all.
    ///
    /// # Errors
    /// `OVERLOADED`, naming what there are too many of.
    pub fn enter(&self, what: &str) -> Result<Pass> {
        match self.free.get().checked_sub(1) {
            Some(free) => {
                self.free.set(free);
                Ok(Pass(self.free.clone()))
            }
            None => Err(Error::new(
                Code::Overloaded,
                format!("{} {what} at once are the most: wait and try again", self.most),
            )),
        }
    }

    /// How many are in.
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
