//! Records what honest programs send to a socket.
//!
//! In: a socket of a home. Out: conversations, in frames. Must not know: what the frames mean.
//!
//! For a moment a relay takes the place of the socket.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gvm_host::Home;

/// What one connection sent.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// Bytes in front of the first frame: of a channel or a bulk connection.
    pub opening: Vec<u8>,
    pub frames: Vec<Vec<u8>>,
}

/// Frames that are longer are not sent thousands of times.
const LONGEST: usize = 16 << 10;

impl Conversation {
    fn split(bytes: &[u8]) -> Conversation {
        // The first bytes of a channel are no length that a message can have.
        let is_rpc = bytes.get(1..4) == Some(&[0; 3]);
        let (opening, mut rest) = bytes.split_at(if is_rpc { 0 } else { bytes.len().min(24) });
        let mut frames = Vec::new();
        while rest.len() >= 8 {
            let number = |at: usize| {
                rest.get(at..at + 4).map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()) as usize)
            };
            let length = match is_rpc {
                true => {
                    let segments = number(0).min(511) + 1;
                    let head = (4 + 4 * segments).next_multiple_of(8);
                    head + 8 * (0..segments).map(|segment| number(4 + 4 * segment)).sum::<usize>()
                }
                false => 24 + 8 * number(8),
            };
            let (frame, after) = rest.split_at(length.min(rest.len()));
            if frame.len() <= LONGEST {
                frames.push(frame.to_vec());
            }
            rest = after;
        }
        Conversation { opening: opening.to_vec(), frames }
    }
}

/// What one connection has sent so far.
type Heard = Arc<Mutex<Vec<u8>>>;

/// Copies one direction, and keeps what was copied.
fn copy(mut from: UnixStream, mut to: UnixStream, kept: Option<Heard>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if let Some(kept) = &kept {
            kept.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// Returns what commands and a node send to this socket.
pub fn record(home: &Home, socket: &Path) -> Vec<Conversation> {
    let real = socket.with_extension("real");
    std::fs::rename(socket, &real).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
    let (all, to) = (heard.clone(), real.clone());
    let done = Arc::new(());
    let alive = Arc::downgrade(&done);
    let relaying = std::thread::spawn(move || {
        while alive.strong_count() > 0 {
            let Ok((near, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            near.set_nonblocking(false).unwrap();
            let far = UnixStream::connect(&to).unwrap();
            let kept = Heard::default();
            all.lock().unwrap().push(kept.clone());
            let (near_again, far_again) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            std::thread::spawn(move || copy(near, far, Some(kept)));
            std::thread::spawn(move || copy(far_again, near_again, None));
        }
    });
    speak(home);
    drop(done);
    relaying.join().unwrap();
    std::fs::rename(&real, socket).unwrap();
    let heard = heard.lock().unwrap();
    let conversations = heard.iter().map(|bytes| Conversation::split(&bytes.lock().unwrap()));
    conversations.filter(|conversation| !conversation.frames.is_empty()).collect()
}

/// Does what people do: lists, uploads, connects, calls, spawns.
fn speak(home: &Home) {
    let run = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        command.arg("--home").arg(home.path()).args(words).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    };
    let module = home.path().join("tiny.wat");
    std::fs::write(&module, "(module (func (export \"f\")))").unwrap();
    let file = format!("--file={}", module.display());
    let (gpmd, gvm) = (env!("CARGO_BIN_EXE_gpmd"), env!("CARGO_BIN_EXE_gvm"));
    run(gpmd, &["status"]);
    run(gpmd, &["wasm", "upload", "--name=tiny", "--version=1.0.0", &file]);
    run(gpmd, &["wasm", "list"]);
    run(gpmd, &["wasm", "get", "tiny", "--out", "-"]);
    run(gpmd, &["devices"]);
    run(
        gvm,
        &[
            "eval",
            "Node.discover()",
            "Node.connect(far)",
            "Node.run(far, carrier.add(1, 2))",
            "Node.run(far, carrier.add(3, 4))",
            "Node.run(far, carrier.add(5, 6))",
            "Node.rights(far)",
            "Node.spawn(far, carrier)",
            "i1.add(1, 2)",
            "Node.drop(i1)",
            "Node.disconnect(far)",
        ],
    );
    run(gpmd, &["wasm", "remove", "tiny"]);
}
