//! Waiting for a moment without sleeping.
//!
//! In: when something happened last. Out: whether to look again at once, or to sleep. To wake a sleeping processor takes
//! some tens of microseconds, which is more than a small call takes. Must not know: what is waited for.

use std::fs;
use std::pin::pin;
use std::sync::OnceLock;
use std::task::Context;
use std::time::Instant;

use super::limits;

/// Decides whether a thread sleeps. One for each connection that is served.
#[derive(Default)]
pub struct Spin {
    /// Since when nothing happened.
    idle: Option<Instant>,
    /// How many times in a row nothing happened until the thread slept.
    missed: u32,
}

/// After so many misses in a row, a thread sleeps at once, and tries again after as many more.
const MISSES: u32 = 4;

/// How often a thread sleeps at once before it tries again.
const PAUSE: u32 = 60;

impl Spin {
    /// Notes that something happened.
    pub fn happened(&mut self) {
        if self.idle.take().is_some() && self.missed < MISSES {
            self.missed = 0;
        }
    }

    /// Arranges that the current task is polled again after the runtime has looked for I/O, if it is not time to sleep.
    /// Must be called on a tokio runtime, before the task returns that it waits.
    pub fn look_again(&mut self, cx: &mut Context<'_>) {
        if !is_allowed() {
            return;
        }
        let now = Instant::now();
        let idle = match self.idle {
            Some(idle) => idle,
            None if self.missed < MISSES => *self.idle.insert(now),
            None => {
                self.missed = if self.missed < MISSES + PAUSE { self.missed + 1 } else { 0 };
                return;
            }
        };
        if now.duration_since(idle) > limits::SPIN {
            self.missed += 1;
            self.idle = None;
            return;
        }
        // Another thread that waits for this processor goes first: it may be the one that answers.
        std::thread::yield_now();
        let _ = pin!(tokio::task::yield_now()).poll(cx);
    }
}

/// Whether threads of this process may wait without sleeping: not on a single processor, not on a battery, and not if the
/// system is set to save energy.
fn is_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        processors > 1 && !saves_energy()
    })
}

fn saves_energy() -> bool {
    let says =
        |path: &std::path::Path, word: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == word);
    let supplies = fs::read_dir("/sys/class/power_supply").into_iter().flatten().flatten();
    let mut supplies = supplies.map(|supply| supply.path().join("status"));
    supplies.any(|status| says(&status, "Discharging"))
        || says("/sys/firmware/acpi/platform_profile".as_ref(), "low-power")
}
