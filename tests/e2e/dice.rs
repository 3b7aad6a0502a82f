//! Random numbers for tests of events that can happen at any time.
//!
//! In: the optional variables `GVM_SEED` and `GVM_ROUNDS`. Out: numbers that are the same for the same seed
//! (the seed is printed), and the number of rounds to run. Must not know: what is tested.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A generator of pseudo-random numbers (SplitMix64: Steele, Lea and Flood 2014).
pub struct Dice(u64);

impl Dice {
    pub fn new() -> Dice {
        let seed = std::env::var("GVM_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        eprintln!("GVM_SEED={seed}");
        Dice(seed)
    }

    /// Returns a number below `most`.
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

/// Returns the number of rounds to run: `GVM_ROUNDS`, or `every_day` if the variable is not set.
pub fn rounds(every_day: u64) -> u64 {
    std::env::var("GVM_ROUNDS").map_or(every_day, |rounds| rounds.parse().unwrap())
}
