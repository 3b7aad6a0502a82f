//! Changes valid bytes a little, again and again, into bytes that nobody expects.
//!
//! In: seeds, a number. Out: bytes; the same for the same number. Must not know: what the bytes mean.

use super::random::Random;

/// Longer inputs find little more and take longer.
const LONGEST: usize = 256 << 10;

/// Numbers at which code often takes another branch.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x1fff_ffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// Parts of text that have a meaning somewhere.
const WORDS: [&str; 24] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\\",
    "\\u{",
    ",",
    ":",
    ".",
    "@",
    "/",
    "Node.run(",
    "some(",
    "nan",
    "\u{0}",
    "\u{1b}",
    "\u{202e}",
    "\u{10ffff}",
    "-9223372036854775808",
    "1e999",
];

impl Random {
    pub fn new(number: u64) -> Random {
        let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    /// Returns one of the seeds, changed.
    pub fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        match self.below(13) {
            0..=2 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            3 if at < bytes.len() => bytes[at] = self.next() as u8,
            4 => {
                let noise: Vec<u8> = (0..=self.below(16)).map(|_| self.next() as u8).collect();
                bytes.splice(at..at, noise);
            }
            5 => drop(bytes.splice(at..(at + 1 + self.below(16)).min(bytes.len()).max(at), [])),
            6 => {
                let end = (at + 1 + self.below(64)).min(bytes.len()).max(at);
                let again = bytes[at..end].repeat(1 + self.below(8));
                bytes.splice(at..at, again);
            }
            7 => bytes.truncate(at),
            8 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            // A number of one of the usual sizes, where such a number may be.
            9 | 10 => {
                let size = [1, 2, 4, 8][self.below(4)];
                let at = at / size * size;
                let edge = match self.below(4) {
                    0 => self.next(),
                    1 => self.below(64) as u64,
                    _ => EDGES[self.below(EDGES.len())],
                };
                if at + size <= bytes.len() {
                    bytes[at..at + size].copy_from_slice(&edge.to_le_bytes()[..size]);
                }
            }
            11 => {
                let word = WORDS[self.below(WORDS.len())].repeat([1, 1, 2, 200][self.below(4)]);
                bytes.splice(at..at, word.bytes());
            }
            _ if bytes.len() >= 16 => {
                // One word of a message instead of another.
                let (from, to) = (self.below(bytes.len() / 8) * 8, self.below(bytes.len() / 8) * 8);
                bytes.copy_within(from..from + 8, to);
            }
            _ => {}
        }
    }
}
