//! In: nothing. Out: control sequences that clear the screen, change the window title, query the terminal
//! and reverse text, if the host does not escape them.

use std::io::Write;

fn main() {
    let bytes =
        b"before\x1b[2J\x1b[31m\x1b]0;owned\x07\x1b[6n\rback\x08\x7f\xc2\x9b31m\xe2\x80\xae\xffafter\n";
    std::io::stdout().write_all(bytes).expect("standard output");
    std::io::stderr().write_all(b"\x1b[1merr\x1b[0m\n").expect("standard error");
}
