//! Threads that wait for their calls on another node.
//!
//! In: calls from threads of this process on a node in another process. Out: their outcomes; proof that no other thread
//! of this process took part, that a dropped call stops there, and that a lost node ends its calls. Must not know: what
//! crosses a channel.

use std::fs;
use std::time::{Duration, Instant};

use futures::future::join_all;
use gvm_host::limits::CHANNELS_PER_SESSION;
use gvm_host::{
    Args, Call, Code, Effect, Limits, List, ModuleRef, NodeName, Outcome, Stdio, Stream, Target, Value, wait,
    wait_for,
};

use crate::pair::{Pair, name, retry};

/// `say` writes a dot; `spin` writes a dot and then loops forever.
const MODULE: &[u8] = br#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\01\00\00\00.")
    (func $say (export "say") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "spin") (call $say) (loop (br 0))))"#;

fn far() -> Option<NodeName> {
    Some(name("far"))
}

fn call(module: &str, function: &str, args: Vec<Value>) -> Call {
    Call::new(Target::function(ModuleRef::stored(name(module)), function), Args::Values(args))
}

fn stdio() -> Stdio {
    Stdio::new(&Limits::default())
}

async fn add(pair: &Pair, n: i32) {
    let outcome = pair.near.run(far(), call("m", "add", vec![Value::S32(n), Value::S32(1)]), stdio()).await;
    assert_eq!(outcome.result.unwrap(), Some(Value::S32(n + 1)));
}

/// Makes the channel of this thread: its first call uses another connection.
fn warm_up(pair: &Pair) {
    (0..20).for_each(|n| wait(add(pair, n)).unwrap());
}

/// Returns how often the threads of this process with these names have waited.
#[cfg(target_os = "linux")]
fn waits(threads: &[&str]) -> u64 {
    let mut all = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let Ok(called) = fs::read_to_string(task.join("comm")) else { continue };
        if threads.contains(&called.trim()) {
            let status = fs::read_to_string(task.join("status")).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            all += line.unwrap().trim().parse::<u64>().unwrap();
        }
    }
    all
}

#[test]
#[cfg(target_os = "linux")]
fn a_call_crosses_no_other_thread_of_its_process() {
    let pair = Pair::start("m", MODULE);
    warm_up(&pair);
    let others = ["gvm-node", "gvm-rpc", "gvm-worker", "gvm-bulk"];
    let before = waits(&others);
    (0..2000).for_each(|n| wait(add(&pair, n)).unwrap());
    // The heartbeat of the session goes on.
    let waited = waits(&others) - before;
    assert!(waited < 200, "other threads woke {waited} times");
}

#[test]
fn output_arrives_with_the_outcome_and_before_it() {
    let pair = Pair::start("m", MODULE);
    warm_up(&pair);
    let written = |outcome: Option<Outcome>, stdio: &Stdio| {
        let chunks = stdio.output.take();
        assert!(chunks.iter().all(|chunk| chunk.stream == Stream::Stdout));
        (outcome.map(|outcome| outcome.result.unwrap()), chunks.concat_data())
    };
    for _ in 0..3 {
        let stdio = stdio();
        let ran = wait(pair.near.run(far(), call("m", "say", Vec::new()), stdio.clone())).unwrap();
        assert_eq!(written(Some(ran), &stdio), (Some(None), b".".to_vec()));
    }
    // The guest does not end, and its output arrives.
    let stdio = stdio();
    let ran = wait(async {
        tokio::select! {
            ran = pair.near.run(far(), call("m", "spin", Vec::new()), stdio.clone()) => Err(ran),
            chunks = stdio.output.next() => Ok(chunks.concat_data()),
        }
    });
    assert_eq!(ran.unwrap().map_err(|ran| ran.result).unwrap(), b".");
}

trait ConcatData {
    fn concat_data(&self) -> Vec<u8>;
}

impl ConcatData for Vec<gvm_host::Chunk> {
    fn concat_data(&self) -> Vec<u8> {
        self.iter().flat_map(|chunk| chunk.data.iter().copied()).collect()
    }
}

/// Returns the processor time of a process so far.
#[cfg(target_os = "linux")]
fn processor_time(id: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    // The kernel reports hundredths of a second to programs.
    Duration::from_millis(10 * ticks)
}

#[test]
#[cfg(target_os = "linux")]
fn a_dropped_call_stops_there() {
    let pair = Pair::start("m", MODULE);
    warm_up(&pair);
    for _ in 0..3 {
        let running = pair.near.run(far(), call("m", "spin", Vec::new()), stdio());
        let mut running = Box::pin(running);
        assert!(wait_for(running.as_mut(), Some(Duration::from_millis(100))).unwrap().is_none());
        drop(running);
    }
    let far = pair.far.0.id();
    retry(|| {
        let before = processor_time(far);
        std::thread::sleep(Duration::from_millis(300));
        (processor_time(far) - before < Duration::from_millis(60)).then_some(())
    });
    wait(add(&pair, 1)).unwrap();
}

#[test]
fn a_node_that_is_killed_ends_its_calls() {
    let mut pair = Pair::start("m", MODULE);
    warm_up(&pair);
    let near = pair.near.clone();
    let caller = std::thread::spawn(move || {
        let calls =
            (0..20).map(|n| near.run(far(), call("m", "add", vec![Value::S32(n), Value::S32(1)]), stdio()));
        wait(join_all(calls)).unwrap();
        let stdio = stdio();
        let calls = (0..5).map(|_| near.run(far(), call("m", "spin", Vec::new()), stdio.clone()));
        wait(join_all(calls)).unwrap()
    });
    std::thread::sleep(Duration::from_millis(500));
    let killed = Instant::now();
    pair.far.0.kill().unwrap();
    for outcome in caller.join().unwrap() {
        let error = outcome.result.unwrap_err();
        assert_eq!((error.code(), error.effect()), (Code::NodeDown, Effect::Unknown), "{error}");
    }
    assert!(killed.elapsed() < Duration::from_secs(10));
    let after = wait(pair.near.run(far(), call("m", "say", Vec::new()), stdio())).unwrap();
    assert!([Code::NodeDown, Code::NodeNotConnected].contains(&after.result.unwrap_err().code()));
}

#[test]
fn more_threads_than_channels_call_at_once() {
    let pair = Pair::start("m", MODULE);
    std::thread::scope(|scope| {
        for thread in 0..CHANNELS_PER_SESSION as i32 + 20 {
            let pair = &pair;
            scope.spawn(move || (0..50).for_each(|n| wait(add(pair, thread * 1000 + n)).unwrap()));
        }
    });
}

#[test]
fn large_and_small_values_share_a_channel() {
    let pair = Pair::start("carrier", &crate::pair::guest("carrier.wat"));
    let bytes = |length: usize| Value::List(List::U8((0..length).map(|index| (index % 251) as u8).collect()));
    for _ in 0..3 {
        let sizes = [0, 1, 65_535, 65_536, 65_537, 300_001, 5_000_003, 7];
        let calls =
            sizes.map(|size| pair.near.run(far(), call("carrier", "bytes", vec![bytes(size)]), stdio()));
        for (size, outcome) in sizes.into_iter().zip(wait(join_all(calls)).unwrap()) {
            assert!(outcome.result.unwrap() == Some(bytes(size)), "{size}");
        }
    }
}
