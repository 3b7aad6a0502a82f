//! In: nothing; or, with `read`, one read of standard input, whose result goes to standard error. Out: 200
//! numbered lines on standard output and 200 on standard error. If a stream fails, the program reports that
//! once on the other stream and writes no more to the first. It always exits with status 0.

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
        // The host may need a moment to notice that a stream fails.
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
