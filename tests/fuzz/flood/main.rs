//! Sends mutated frames to a gpmd and a node, over their sockets and ports, as fast as they take them.
//!
//! In: `GVM_FRAMES`, how many frames (20,000 by default). Out: figures; a failure if a process dies or panics, if an honest
//! client waits for more than 2 s, or if memory or descriptors grow. Must not know: how frames are read.
//!
//! The frames come from real conversations: commands and a node connect through a relay that records what they send.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints its figures"
)]

#[path = "../../../gvm-host/cli/tests/pair/mod.rs"]
mod pair;
#[path = "../driver/random.rs"]
mod random;
mod record;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use capnp::traits::HasTypeId;
use gvm_host::gpmd::control::Control;
use gvm_host::internals::wire::schema::gpmd_capnp::control;
use gvm_host::net::{Address, Tls, dial};
use gvm_host::{Args, Call, Home, Limits, ModuleRef, Stdio, Target, Value, workers};
use pair::{Pair, guest, name};
use random::Random;
use record::Conversation;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long an honest client may wait for an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How often an honest client asks.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The most mutated frames in one connection.
const FRAMES_PER_CONNECTION: usize = 96;

/// How long a connection may take a write before it is given up.
const STALLED: Duration = Duration::from_secs(2);

/// Growth that is allowed besides a quarter: what an allocator keeps after a flood differs from run to run.
const SLACK: u64 = 32 << 20;

/// A listener that is flooded, and the conversations that it understands.
struct Door {
    what: &'static str,
    at: Address,
    conversations: Vec<Conversation>,
}

/// What a process holds: resident anonymous memory in bytes, and descriptors.
#[derive(Clone, Copy, Debug)]
struct Held {
    memory: u64,
    descriptors: usize,
}

impl Held {
    fn of(pid: u32) -> Held {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let memory = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
        Held { memory, descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() }
    }

    /// Waits until connections that were closed are gone, and measures.
    fn at_rest(pid: u32, before: Option<Held>) -> Held {
        let started = Instant::now();
        loop {
            let now = Held::of(pid);
            let rests = before.is_none_or(|before| now.descriptors <= before.descriptors + 4);
            if started.elapsed() > Duration::from_secs(2)
                && (rests || started.elapsed() > Duration::from_secs(30))
            {
                return now;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Random {
    fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Changes a frame. Three of four changes keep its length and the number of its segments, so the next frame is still
    /// found.
    fn mutated(&mut self, frame: &[u8], out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(frame);
        let bytes = &mut out[from..];
        let words = bytes.len() / 8;
        for _ in 0..=self.below(4) {
            let word = if words > 1 { 8 * (1 + self.below(words - 1)) } else { 0 };
            match self.below(6) {
                0 | 1 if words > 1 => bytes[word + self.below(8)] ^= 1 << self.below(8),
                // A pointer, or a number, of the sizes at which code changes its mind.
                2 if words > 1 => {
                    let pointer = match self.below(4) {
                        0 => self.next(),
                        1 => 1 | 0x1fff_ffff << 35 | (self.next() & 7) << 32 | (self.next() & 0xfff) << 2,
                        2 => (self.next() & 0x3fff) << 2 | (self.next() & 0xff) << 32,
                        _ => [0, 1, 3, 0xff, 0xffff_ffff, u64::MAX][self.below(6)],
                    };
                    bytes[word..word + 8].copy_from_slice(&pointer.to_le_bytes());
                }
                3 if words > 2 => {
                    let other = 8 * (1 + self.below(words - 1));
                    bytes.copy_within(other..other + 8, word);
                }
                // The numbers of questions, exports and imports.
                4 if words > 1 => {
                    let at = 8 + 4 * self.below((bytes.len() - 8).min(96) / 4);
                    let number: u32 = *self.one_of(&[0, 1, 2, 3, 5, 1 << 16, 0x7fff_ffff, u32::MAX]);
                    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
                }
                _ => {}
            }
        }
        match self.below(40) {
            0 => out.truncate(from + self.below(frame.len())),
            1 => {
                let header: u32 = *self.one_of(&[0, 1, 2, 511, 512, 1 << 20, 0x7fff_ffff, u32::MAX]);
                let at = from + 4 * self.below(2);
                if at + 4 <= out.len() {
                    out[at..at + 4].copy_from_slice(&header.to_le_bytes());
                }
            }
            2 => {
                let noise = self.next().to_le_bytes();
                let at = from + self.below(frame.len());
                out.splice(at..at, noise);
            }
            _ => {}
        }
    }

    /// Returns what one connection sends, and the number of mutated frames in it.
    fn connection(&mut self, conversations: &[Conversation]) -> (Vec<u8>, u64) {
        let conversation = self.one_of(conversations);
        let mut out = conversation.opening.clone();
        let whole = self.below(conversation.frames.len() + 1);
        conversation.frames[..whole].iter().for_each(|frame| out.extend_from_slice(frame));
        let count = 1 + self.below(FRAMES_PER_CONNECTION);
        for index in 0..count {
            let frame = match conversation.frames.get(whole + index) {
                Some(frame) => frame,
                None => self.one_of(&conversation.frames),
            };
            let from = out.len();
            self.mutated(frame, &mut out);
            spare(&mut out[from..]);
        }
        (out, count as u64)
    }
}

/// Changes a request to shut down, which a command may make, into one for the status. In a call of Cap'n Proto RPC, the number of the
/// method is four bytes before the id of the interface.
fn spare(frame: &mut [u8]) {
    const SHUT_DOWN: [u8; 2] = [1, 0];
    let interface = <control::Client as HasTypeId>::TYPE_ID.to_le_bytes();
    let places: Vec<usize> =
        (4..frame.len().saturating_sub(7)).filter(|at| frame[*at..at + 8] == interface).collect();
    for at in places {
        if frame[at - 4..at - 2] == SHUT_DOWN {
            frame[at - 4] = 0;
        }
    }
}

/// Counters of all threads.
#[derive(Default)]
struct Sent {
    frames: AtomicU64,
    connections: AtomicU64,
    refused: AtomicU64,
    done: AtomicBool,
}

impl Sent {
    /// Adds the frames of a connection; ends the flood when there are enough.
    fn add(&self, frames: u64, goal: u64) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        if self.frames.fetch_add(frames, Ordering::Relaxed) + frames >= goal {
            self.done.store(true, Ordering::Relaxed);
        }
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

/// Floods a Unix socket from this thread.
fn flood_socket(door: &Door, path: &Path, sent: &Sent, goal: u64, seed: u64) {
    let mut random = Random(seed);
    // Some connections stay open for a while, half read.
    let mut open = Vec::new();
    while !sent.is_done() {
        let Ok(mut stream) = UnixStream::connect(path) else {
            sent.refused.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        stream.set_write_timeout(Some(STALLED)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let (bytes, frames) = random.connection(&door.conversations);
        // The other side may close the connection at the first frame that it cannot read.
        let _ = stream.write_all(&bytes);
        match random.below(20) {
            0..=3 => drop(stream.read(&mut [0; 4096])),
            4 => drop(stream.shutdown(Shutdown::Write)),
            5 => drop(stream.shutdown(Shutdown::Read)),
            6 => open.push(stream),
            _ => {}
        }
        if open.len() > 16 {
            open.clear();
        }
        sent.add(frames, goal);
    }
}

/// Floods a port over TLS, with the key of the device.
async fn flood_port(door: &Door, tls: &Tls, sent: &Sent, goal: u64, seed: u64) {
    let mut random = Random(seed);
    while !sent.is_done() {
        let Ok(Ok(mut transport)) = tokio::time::timeout(ANSWER * 5, dial(&door.at, Some(tls))).await else {
            sent.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let (bytes, frames) = random.connection(&door.conversations);
        let writing = async {
            transport.write_all(&bytes).await?;
            transport.flush().await
        };
        let _ = tokio::time::timeout(STALLED, writing).await;
        if random.below(4) == 0 {
            let _ = tokio::time::timeout(Duration::from_millis(5), transport.read(&mut [0; 4096])).await;
        }
        sent.add(frames, goal);
    }
}

/// Asks both processes as an honest client does; returns the longest time of an answer.
fn ask(pair: &Pair, home: &Home, sent: &Sent) -> Duration {
    let mut worst = Duration::ZERO;
    let (mut asked, mut late) = (0, 0);
    let mut done = |what: &str, began: Instant| {
        let took = began.elapsed();
        worst = worst.max(took);
        // Once may be another process that takes all processors.
        late = if took < ANSWER { 0 } else { late + 1 };
        assert!(
            late < 2 && took < ANSWER * 5,
            "an honest client waits {took:?} for {what}, after {asked} answers"
        );
        asked += 1;
    };
    while !sent.is_done() {
        let began = Instant::now();
        let add = Target::function(ModuleRef::stored(name("carrier")), "add");
        let call = Call::new(add, Args::Values(vec![Value::S32(20), Value::S32(22)]));
        let ran = pair.near.run(Some(name("far")), call, Stdio::new(&Limits::default()));
        let outcome = workers().unwrap().block_on(ran);
        assert_eq!(outcome.result.unwrap(), Some(Value::S32(42)), "a call on the node");
        done("a call on the node", began);
        let began = Instant::now();
        let control = Control::connect(home).unwrap();
        done("a connection to gpmd", began);
        let began = Instant::now();
        assert!(control.status().unwrap().nodes.len() >= 2, "both nodes are registered");
        done("the status of gpmd", began);
        std::thread::sleep(ASK_EVERY);
    }
    worst
}

#[test]
fn leave_both_processes_as_they_were() {
    let goal: u64 = std::env::var("GVM_FRAMES").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let pair = Pair::start("carrier", &guest("carrier.wat"));
    let home = pair.home.clone();
    let status = Control::connect(&home).unwrap().status().unwrap();
    let (gpmd, far) = (status.pid, pair.far.0.id());

    let found = workers().unwrap().block_on(pair.near.discover()).unwrap();
    let node = found.iter().find(|node| node.name.as_str() == "far").unwrap();
    let far_socket =
        node.addresses.iter().find_map(|address| address.strip_prefix("unix:")).map(PathBuf::from).unwrap();
    let socket = |name: &str| home.path().join(name);
    let sockets =
        [("gpmd", socket("gpmd.sock")), ("commands", socket("command.sock")), ("the node", far_socket)];

    let mut doors = Vec::new();
    for (what, path) in sockets {
        let conversations = record::record(&home, &path);
        assert!(
            conversations.iter().any(|conversation| conversation.frames.len() > 1),
            "{what}: {conversations:?}"
        );
        doors.push(Door { what, at: Address::Unix(path), conversations });
    }
    let ports = [("gpmd's port", &status.address, 0), ("the port for commands", &status.command_address, 1)];
    for (what, at, like) in ports {
        let conversations = doors[like].conversations.clone();
        doors.push(Door { what, at: at.parse().unwrap(), conversations });
    }
    let port = node.addresses.iter().find(|address| !address.starts_with("unix:"));
    if let Some(at) = port {
        let conversations = doors[2].conversations.clone();
        doors.push(Door { what: "the node's port", at: at.parse().unwrap(), conversations });
    }
    for door in &doors {
        let frames: usize = door.conversations.iter().map(|conversation| conversation.frames.len()).sum();
        eprintln!(
            "{}: {} conversations, {frames} frames, at {}",
            door.what,
            door.conversations.len(),
            door.at
        );
    }

    let tls = Tls::open(&home).unwrap();
    // The processes keep what many connections at once have needed, so what they hold goes up and down: growth is if the least of
    // the later parts is more than the most of the earlier ones.
    let parts = if goal >= 1_000_000 { 8 } else { 2 };
    let mut all: Vec<[Held; 2]> = Vec::new();
    for number in 0..parts {
        let part = goal / parts;
        let sent = Sent::default();
        let started = Instant::now();
        let worst = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let worst =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(&pair, &home, &sent)));
                sent.done.store(true, Ordering::Relaxed);
                worst.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            for (index, door) in doors.iter().enumerate() {
                let (sent, tls, seed) =
                    (&sent, &tls, 0x9e37_79b9_7f4a_7c15 ^ (part << 8) ^ (number << 4) ^ (index as u64 + 1));
                scope.spawn(move || match &door.at {
                    Address::Unix(path) => flood_socket(door, path, sent, part, seed),
                    _ => tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap()
                        .block_on(flood_port(door, tls, sent, part, seed)),
                });
            }
            asking.join().unwrap()
        });
        let took = started.elapsed();
        let (frames, connections) = (sent.frames.into_inner(), sent.connections.into_inner());
        let held = [gpmd, far].map(|pid| Held::at_rest(pid, all.last().map(|[gpmd, _]| *gpmd)));
        eprintln!(
            "{frames} frames over {connections} connections in {took:.1?}, {} refused; an honest client waited {worst:?} at most; \
             gpmd holds {} KiB and {} descriptors, the node {} KiB and {}",
            sent.refused.into_inner(),
            held[0].memory >> 10,
            held[0].descriptors,
            held[1].memory >> 10,
            held[1].descriptors,
        );
        all.push(held);
    }
    let (earlier, later) = all.split_at(all.len() / 2);
    for (place, what) in ["gpmd", "the node"].into_iter().enumerate() {
        let memory = |held: &[Held; 2]| held[place].memory;
        let (most, least) =
            (earlier.iter().map(memory).max().unwrap(), later.iter().map(memory).min().unwrap());
        assert!(least <= most * 5 / 4 + SLACK, "{what} grew: {all:?}");
        let descriptors = |held: &[Held; 2]| held[place].descriptors;
        let (most, least) =
            (earlier.iter().map(descriptors).max().unwrap(), later.iter().map(descriptors).min().unwrap());
        assert!(least <= most + 8, "{what} keeps descriptors: {all:?}");
    }
    assert_eq!(Control::connect(&home).unwrap().status().unwrap().pid, gpmd, "gpmd has not started anew");
}
