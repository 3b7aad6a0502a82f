//! In: nothing. Out: lines that show that both clocks advance, and a number from a random hash seed. Only
//! that number differs between runs.

use std::hash::{BuildHasher, RandomState};
use std::time::{Instant, SystemTime};

fn main() {
    let started = Instant::now();
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970");
    println!("later than 2020: {}", since.as_secs() > 1_577_836_800);
    while started.elapsed().is_zero() {}
    println!("it goes: true");
    println!("seed {:x}", RandomState::new().hash_one(0));
}
