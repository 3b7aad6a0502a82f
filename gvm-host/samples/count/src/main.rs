//! Counts lines, words and bytes. In: files that the node grants, or standard input. Out: one line for
//! each.

use std::io::Read;
use std::process::ExitCode;

fn count(name: &str, mut from: impl Read) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)?;
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
    println!("{lines} {words} {} {name}", bytes.len());
    Ok(())
}

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let mut ended = ExitCode::SUCCESS;
    let mut counted = |name: &str, done: std::io::Result<()>| {
        if let Err(error) = done {
            eprintln!("{name}: {error}");
            ended = ExitCode::FAILURE;
        }
    };
    if names.is_empty() {
        counted("-", count("-", std::io::stdin()));
    }
    for name in &names {
        counted(name, std::fs::File::open(name).and_then(|file| count(name, file)));
    }
    ended
}
