//! Chance, for tests that try what may happen at any moment.
//!
//! In: nothing, or a seed from `GVM_SEED`. Out: numbers, the same for the same seed, which is printed; how
//! often to try, from `GVM_ROUNDS`. Must not know: what is tried.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A sequence of numbers (SplitMix64: Steele, Lea and Flood 2014).
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Dice {
        let seed = std::env::var("GVM_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        eprintln!("GVM_SEED={seed}");
        Dice(seed)
    }

    /// A number below this.
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }

    pub fn nap(&mut self, most: Duration) {
        std::thread::sleep(Duration::from_micros(self.below(most.as_micros() as u64 + 1)));
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}

/// How often to try: as often as a person asks, or often enough for every day.
pub fn rounds(every_day: u64) -> u64 {
    std::env::var("GVM_ROUNDS").map_or(every_day, |rounds| rounds.parse().unwrap())
}
