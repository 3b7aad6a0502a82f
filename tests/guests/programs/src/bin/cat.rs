//! In: standard input. Out: the same bytes on standard output; with `upper`, in upper case. It waits as long
//! as there is no input.

use std::io::{Read, Write};

fn main() {
    let upper = std::env::args().nth(1).is_some_and(|word| word == "upper");
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = std::io::stdin().read(&mut buffer).expect("standard input");
        if count == 0 {
            return;
        }
        let bytes = &mut buffer[..count];
        if upper {
            bytes.make_ascii_uppercase();
        }
        std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()).expect("standard output");
    }
}
