//! What the last call of a function was like. The next one is probably like it.
//!
//! In: outcomes. Out: how to drive the next call. Must not know: how calls are driven.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use gvm_host::{List, Outcome, Value};
use pyo3::prelude::*;

use crate::bytes::landing;
use crate::drive::How;

/// The GIL is kept for calls that take less time. To release and take it costs 0.1 µs, and much more if another thread
/// takes it meanwhile.
const FAST: Duration = Duration::from_micros(20);

/// What the last call of one function was like.
#[derive(Default)]
pub struct Last {
    fast: AtomicBool,
    /// The bytes of its result, if that is a `list<u8>`: a block, a frame, an image.
    size: AtomicUsize,
}

impl Last {
    /// Records a call.
    pub fn note(&self, outcome: &Outcome) {
        let size = match &outcome.result {
            Ok(Some(Value::List(List::U8(bytes)))) => bytes.len(),
            Ok(Some(Value::Result(Ok(Some(value))))) => match &**value {
                Value::List(List::U8(bytes)) => bytes.len(),
                _ => 0,
            },
            _ => 0,
        };
        self.size.store(size, Ordering::Relaxed);
        if let Some(elapsed) = outcome.elapsed {
            self.fast.store(elapsed < FAST && outcome.result.is_ok(), Ordering::Relaxed);
        }
    }

    /// Returns how to drive the next call, on this node (`here`) or on another one.
    pub fn how(&self, py: Python<'_>, here: bool) -> How {
        if !here {
            // Its result is not lifted in this process.
            return How::default();
        }
        How {
            fast: self.fast.load(Ordering::Relaxed),
            landing: landing(py, self.size.load(Ordering::Relaxed)),
        }
    }
}
