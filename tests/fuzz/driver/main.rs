//! Runs the targets of `tests/fuzz/src` with a stable compiler: first on the files of the corpus, then on mutations of them.
//!
//! In: `GVM_FUZZ_SECONDS` (how long each target runs, 2 by default), `GVM_FUZZ_START` (where the numbers of the mutations
//! begin). Out: one test per target, which fails on a panic, on an input that takes more than 2 s or 256 MiB, and on memory that
//! is not freed; the input is then in a file that the message names. Must not know: what a target does with its input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints its figures"
)]

mod memory;
mod mutate;
mod random;
#[path = "../src/lib.rs"]
mod targets;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use random::Random;

/// How long one input may take.
const SLOW: Duration = Duration::from_secs(2);

/// Time after which an input hangs, however busy the machine is.
const HANGS: Duration = Duration::from_secs(60);

/// Memory that one input may take, in bytes. The limits of a message let a reader take about 64 MiB, and a target then writes
/// what it has read in two forms.
const MOST: isize = 256 << 20;

/// Memory that a target may keep, for caches of its dependencies.
const KEPT: isize = 8 << 20;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target)
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The input that runs, in a file, so that it is known even if the process dies.
struct Current {
    path: PathBuf,
    file: File,
    began: Arc<AtomicU64>,
    start: Instant,
}

impl Current {
    fn new(target: &'static str) -> Current {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(target);
        let (began, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let current = Current { file: File::create(&path).unwrap(), path, began: began.clone(), start };
        let shown = current.path.display().to_string();
        std::thread::spawn(move || {
            while Arc::strong_count(&began) > 1 {
                std::thread::sleep(Duration::from_secs(1));
                let took =
                    start.elapsed().saturating_sub(Duration::from_millis(began.load(Ordering::Relaxed)));
                if took > HANGS && Arc::strong_count(&began) > 1 {
                    eprintln!("{target} hangs for {took:?}; the input is in {shown}");
                    std::process::abort();
                }
            }
        });
        current
    }

    /// Runs a target on an input.
    fn run(&self, target: targets::Target, input: &[u8]) {
        self.file.set_len(0).unwrap();
        self.file.write_all_at(input, 0).unwrap();
        self.began.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
        let place = self.path.display();
        let mut fastest = Duration::MAX;
        // Another process may have taken the processor, so a slow input gets other chances.
        for _ in 0..3 {
            memory::begin();
            let (held, began) = (memory::held(), Instant::now());
            let ran = catch_unwind(AssertUnwindSafe(|| target(input)));
            let used = memory::most() - held;
            fastest = fastest.min(began.elapsed());
            assert!(ran.is_ok(), "the target panics; the input is in {place}");
            assert!(used < MOST, "an input takes {} MiB; it is in {place}", used >> 20);
            if fastest < SLOW {
                return;
            }
        }
        panic!("an input takes {fastest:?}; it is in {place}");
    }
}

fn fuzz(name: &'static str) {
    let (_, target) = targets::TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    let mut seeds = Vec::new();
    for entry in fs::read_dir(corpus(name)).unwrap() {
        seeds.push(fs::read(entry.unwrap().path()).unwrap());
    }
    seeds.sort();
    assert!(!seeds.is_empty());
    let current = Current::new(name);
    seeds.iter().for_each(|seed| current.run(target, seed));
    let held = memory::held();
    let (started, seconds) = (Instant::now(), number("GVM_FUZZ_SECONDS", 2));
    let first = number("GVM_FUZZ_START", u64::from(std::process::id()) << 32);
    let mut count = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        current.run(target, &Random::new(first + count).mutated(&seeds));
        count += 1;
    }
    let kept = memory::held() - held;
    eprintln!("{name}: {count} inputs from {first} in {:?}; {} KiB kept", started.elapsed(), kept >> 10);
    assert!(kept < KEPT, "{name} keeps {kept} bytes after {count} inputs");
    fs::remove_file(&current.path).unwrap();
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test] fn $name() { fuzz(stringify!($name)); })*

        #[test]
        fn every_target_has_a_test_and_a_corpus() {
            let tests = [$(stringify!($name)),*];
            assert_eq!(targets::TARGETS.map(|(name, _)| name), tests);
            let file = |name: &str| corpus(name).join(format!("../../fuzz_targets/{name}.rs"));
            assert!(tests.iter().all(|name| corpus(name).is_dir() && file(name).is_file()));
        }
    };
}

tests! {
    call wave names lines hello wire_call outcome value shape messages channel canonical module index roster certificate
}

/// Writes the corpus anew. Run it after a change of the schema or of a file format: `tests/fuzz/run --seeds`.
#[test]
#[ignore = "it writes into the source tree"]
fn writes_the_seeds() {
    for (target, name, bytes) in targets::seeds() {
        fs::create_dir_all(corpus(target)).unwrap();
        fs::write(corpus(target).join(name), bytes).unwrap();
    }
}
