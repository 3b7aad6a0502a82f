//! In: what to use up: `sleep MS`, `spin`, `memory`, `stdout [BYTES]` or `stderr [BYTES]`. Out: with the
//! first three, a line `spending`; then it uses up what was asked for. It ends only after a given number of
//! milliseconds or bytes.

use std::io::Write;
use std::time::Duration;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = words.get(1).map(|word| word.parse::<u64>().expect("a number"));
    match words.first().map(String::as_str) {
        Some("sleep") => {
            spending();
            std::thread::sleep(Duration::from_millis(number.expect("milliseconds")));
        }
        Some("spin") => {
            spending();
            let mut count = 0u64;
            loop {
                count = std::hint::black_box(count.wrapping_add(1));
            }
        }
        Some("memory") => {
            spending();
            let mut held = Vec::new();
            loop {
                held.push(std::hint::black_box(vec![1u8; 1 << 20]));
            }
        }
        Some("stdout") => write(std::io::stdout(), number),
        Some("stderr") => write(std::io::stderr(), number),
        other => panic!("no such thing: {other:?}"),
    }
}

fn spending() {
    println!("spending");
    std::io::stdout().flush().expect("standard output");
}

fn write(mut to: impl Write, most: Option<u64>) {
    let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
    let mut left = most.unwrap_or(u64::MAX);
    while left > 0 {
        let part = &line[..line.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        to.write_all(part).expect("an output");
        left -= part.len() as u64;
    }
    to.flush().expect("an output");
}
