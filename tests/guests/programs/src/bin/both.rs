//! In: nothing, or with `read` one read of standard input, told of on standard error. Out: 200 numbered lines on standard output and as many on standard error; a stream that fails
//! is told of on the other one, once, and left alone from then on. Leaves with status 0 whatever fails.

use std::io::{Read, Write, stderr, stdin, stdout};

fn main() {
    if std::env::args().nth(1).is_some_and(|word| word == "read") {
        let _ = writeln!(stderr(), "stdin: {:?}", stdin().read(&mut [0; 16]));
    }
    let (mut out, mut err) = (true, true);
    for line in 1..=200 {
        if out && let Err(error) = writeln!(stdout(), "stdout {line}").and_then(|()| stdout().flush()) {
            out = false;
            let _ = writeln!(stderr(), "stdout: {:?}", error.raw_os_error());
        }
        if err && let Err(error) = writeln!(stderr(), "stderr {line}") {
            err = false;
            let _ = writeln!(stdout(), "stderr: {:?}", error.raw_os_error());
        }
        // Who reads them may need a moment to notice that they fail.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
