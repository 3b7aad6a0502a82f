//! In: how to end: a status, `panic`, or `return`. Out: a line on standard error; then it ends that way.

fn main() {
    let how = std::env::args().nth(1).unwrap_or_default();
    eprintln!("leaving by {how}");
    match how.as_str() {
        "panic" => panic!("as was asked"),
        "return" => {}
        status => std::process::exit(status.parse().expect("a status")),
    }
}
