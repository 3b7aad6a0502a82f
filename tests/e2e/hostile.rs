//! Hostile guests and hostile clients.
//!
//! In: control sequences, and bytes that do not follow the protocol. Out: a screen and nodes that still work.
//! Must not know: the protocol, except the shape of a frame header.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bed::{Bed, GVM};
use crate::guests::p1;
use crate::process::wait_until;
use crate::random::Random;
use crate::terminal::Terminal;

#[test]
fn control_sequences_are_raw_in_a_pipe() {
    let bed = Bed::bare();
    let out = bed.run([p1("mischief")]).stdout;
    assert_eq!(
        out,
        b"before\x1b[2J\x1b[31m\x1b]0;owned\x07\x1b[6n\rback\x08\x7f\xc2\x9b31m\xe2\x80\xae\xffafter\n"
    );
}

#[test]
fn control_sequences_are_harmless_on_a_terminal() {
    let bed = Bed::stocked();
    bed.upload("mischief", &p1("mischief"));
    let _b = bed.node("b");
    let home = bed.home();
    let env = [("GHOST_HOME", home.to_str().unwrap()), ("NO_COLOR", "1")];
    let terminal = Terminal::open(GVM, &["--name", "a"], &env, bed.folder());
    let is_prompt = |text: &str| text == "(a) >";
    let mut row = terminal.wait_for_prompt(None, is_prompt).0;
    for statement in
        ["mischief", "Node.connect(b)", "Node.run(b, mischief)", "values.trap-panic(\"\\u{1b}[2J\")"]
    {
        terminal.enter(statement);
        row = terminal.wait_for_prompt(Some(row), is_prompt).0;
    }
    let text = terminal.text();
    // The byte that is not UTF-8 is shown as U+FFFD, which this terminal omits.
    let shown = "before^[[2J^[[31m^[]0;owned^G^[[6n^Mback^H^?\\u{9b}31m\\u{202e}after";
    assert_eq!(text.matches(shown).count(), 2, "{text}");
    assert_eq!(text.matches("^[[1merr^[[0m").count(), 2, "{text}");
    assert!(text.starts_with("GVM has been created a "), "the screen was cleared: {text}");
}

/// Sends random and almost valid bytes to every socket of the home. The node and gpmd keep working.
#[test]
fn frames() {
    let bed = Bed::stocked();
    let b = bed.node("b");
    let mut sockets = sockets(&bed.home());
    sockets.sort();
    assert!(sockets.len() >= 3, "{sockets:?}");
    let greeting = greeting(&bed);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..700 {
        for socket in &sockets {
            let Ok(mut stream) = UnixStream::connect(socket) else {
                panic!("{} is gone in round {round}", socket.display())
            };
            stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
            let bytes = random.frame(&greeting);
            // The listener may close the connection before all bytes are written.
            let _ = stream.write_all(&bytes);
            if round % 7 == 0 {
                let _ = stream.read(&mut [0; 256]);
            }
        }
    }
    assert_eq!(bed.nodes(), ["b"]);
    let out = bed.eval(["Node.connect(b)", "Node.run(b, values.echo-u8(1))"]).ok();
    assert!(out.ends_with("\n1\n"), "{out}");
    let peak = crate::process::peak_memory(b.pid()) >> 20;
    let daemon = crate::process::peak_memory(bed.gpmd_pid()) >> 20;
    eprintln!("after 2,100 hostile connections the node peaked at {peak} MiB, gpmd at {daemon} MiB");
    assert!(peak < 1024 && daemon < 512, "{peak} MiB, {daemon} MiB");
}

/// A client closes its reading side and stays connected. Its connection ends; everything else keeps working.
#[test]
fn a_client_that_stops_listening() {
    let bed = Bed::stocked();
    let b = bed.node("b");
    let greeting = greeting(&bed);
    assert!(!greeting.is_empty());
    for socket in sockets(&bed.home()) {
        for _ in 0..3 {
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.shutdown(std::net::Shutdown::Read).unwrap();
            stream.write_all(&greeting).unwrap();
            // The other side closes the connection although this side stays open.
            wait_until("the connection is closed", || stream.write_all(&[0]).is_err());
        }
    }
    for said in [bed.gpmd_err(), b.running.err()] {
        assert!(!said.contains("panicked"), "{said}");
    }
    let out = bed.eval(["Node.connect(b)", "Node.run(b, values.echo-u8(1))"]).ok();
    assert!(out.ends_with("\n1\n"), "{out}");
}

fn sockets(home: &Path) -> Vec<PathBuf> {
    let files = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = files(home.to_owned()).chain(files(home.join("nodes")));
    all.filter(|path| path.extension().is_some_and(|extension| extension == "sock")).collect()
}

/// Returns the first bytes that a real command sends to the daemon. A listener in the daemon's place records
/// them.
fn greeting(bed: &Bed) -> Vec<u8> {
    let bare = Bed::bare();
    std::fs::create_dir(bare.home()).unwrap();
    std::fs::set_permissions(bare.home(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::copy(bed.home().join("home.id"), bare.home().join("home.id")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(bare.home().join("command.sock")).unwrap();
    let command = bare
        .command(crate::bed::GPMD)
        .args(["status"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut command = command.unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut heard = Vec::new();
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(3) && command.try_wait().unwrap().is_none() {
        if let Ok((mut stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                heard.extend_from_slice(&buffer[..count]);
            }
            break;
        }
        std::thread::yield_now();
    }
    let _ = command.kill();
    let _ = command.wait();
    heard
}

impl Random {
    /// Returns random bytes, a hostile frame header with random bytes, or a real greeting with changed bits.
    fn frame(&mut self, greeting: &[u8]) -> Vec<u8> {
        let length = self.below(512);
        let noise: Vec<u8> = (0..length).map(|_| self.next() as u8).collect();
        match self.below(3) {
            0 => noise,
            1 => {
                let segments = [0u32, 0, 1, 511, u32::MAX][self.below(5)];
                let words = [0u32, 1, 1 << 20, 1 << 29, u32::MAX][self.below(5)];
                [&segments.to_le_bytes()[..], &words.to_le_bytes(), &noise].concat()
            }
            _ => {
                let mut bytes = greeting.to_vec();
                for _ in 0..=self.below(6) {
                    if !bytes.is_empty() {
                        let at = self.below(bytes.len());
                        bytes[at] ^= 1 << self.below(8);
                    }
                }
                let keep = if self.below(4) == 0 { self.below(bytes.len() + 1) } else { bytes.len() };
                bytes.truncate(keep);
                bytes
            }
        }
    }
}
