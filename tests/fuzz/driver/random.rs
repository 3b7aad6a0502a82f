//! Numbers that look random and are the same in every run.
//!
//! In: a number to begin with, not zero. Out: numbers. Must not know: what they are for. Three test binaries share this file.

/// A generator (xorshift: Marsaglia 2003).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `most`; 0 if that is 0.
    pub fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }
}
