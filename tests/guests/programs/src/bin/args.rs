//! In: arguments and environment variables. Out: one line on standard output for each. Uses no files.

fn main() {
    for (index, arg) in std::env::args().enumerate() {
        println!("arg {index}: {arg}");
    }
    for (key, value) in std::env::vars() {
        println!("env {key}={value}");
    }
}
