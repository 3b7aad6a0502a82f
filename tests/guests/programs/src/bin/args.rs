//! In: arguments and environment. Out: a line of standard output for each. Knows no files.

fn main() {
    for (index, arg) in std::env::args().enumerate() {
        println!("arg {index}: {arg}");
    }
    for (key, value) in std::env::vars() {
        println!("env {key}={value}");
    }
}
