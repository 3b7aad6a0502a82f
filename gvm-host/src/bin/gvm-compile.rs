//! `gvm-compile`: compiles one module for a program that embeds nodes and does not compile in itself.
//!
//! In: the arguments that the library's `Compiler` gives. Out: a file of code, an exit status. Must not know: who asked.

use gvm_host::compiler;

fn main() {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    std::process::exit(compiler::child_main(&args));
}
