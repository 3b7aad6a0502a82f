//! How much gossip another device may send over one connection.
//!
//! In: the number and size of messages, the time. Out: how long to wait before they are read. Pure. Must not know: what the
//! messages say.

use std::time::{Duration, Instant};

/// What may come at once: all records of a network of 1,000 devices, for one that was away.
const BURST: f64 = 2048.0;

/// What may come per second: ten times what neighbours send in a network of 1,000 devices that often restart.
const PER_SECOND: f64 = 400.0;

/// A message counts as one, and as one more for each of so many bytes: some 8 signatures to check.
const BYTES: f64 = 1024.0;

/// What one connection may send. Plain data.
pub struct Rate {
    left: f64,
    at: Instant,
}

impl Rate {
    /// Creates the allowance of a new connection.
    pub fn new(now: Instant) -> Rate {
        Rate { left: BURST, at: now }
    }

    /// Counts messages of this size in all. Returns how long to wait before they are read.
    pub fn take(&mut self, messages: usize, size: usize, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + since * PER_SECOND).min(BURST) - (messages as f64 + size as f64 / BYTES);
        Duration::from_secs_f64((-self.left / PER_SECOND).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_rate_waits() {
        let begun = Instant::now();
        let mut rate = Rate::new(begun);
        assert_eq!(rate.take(64, 64 << 10, begun), Duration::ZERO);
        let waits: Vec<Duration> = (0..32).map(|_| rate.take(64, 64 << 10, begun)).collect();
        assert!(waits.is_sorted() && *waits.last().unwrap() > Duration::from_secs(5), "{waits:?}");
        let later = begun + Duration::from_secs(60);
        assert_eq!(rate.take(64, 64 << 10, later), Duration::ZERO);
        // An idle neighbour never waits.
        for second in 61..100 {
            assert_eq!(rate.take(10, 3000, begun + Duration::from_secs(second)), Duration::ZERO);
        }
    }
}
