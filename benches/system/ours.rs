//! GVM's side: a node in this process that calls itself and the nodes `far` and `farther`.
//!
//! In: a home; requests. Out: times. `far` is reached over its socket and `farther` over TCP with TLS. Must not know: the
//! internals of a node.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use gvm_host::{
    Args, Call, Handle, Limits, List, ModuleRef, NodeName, Outcome, Stdio, Target, Value, wait, workers,
};

use super::place::{MODULE, name, node_here};
use super::worker::serve;

/// A node and what is called there.
#[derive(Clone)]
struct There {
    handle: Handle,
    /// `None` is this node itself.
    node: Option<NodeName>,
    /// A live instance there. Another one is for large values.
    live: ModuleRef,
    large: ModuleRef,
}

impl There {
    fn new(handle: &Handle, node: Option<NodeName>) -> There {
        let spawn = || {
            let target = Target::main(ModuleRef::stored(name(MODULE)));
            ModuleRef::Instance(
                workers().unwrap().block_on(handle.spawn(node.clone(), target, Limits::default())).unwrap(),
            )
        };
        There { handle: handle.clone(), live: spawn(), large: spawn(), node }
    }

    fn module(&self, live: bool) -> ModuleRef {
        if live { self.live.clone() } else { ModuleRef::stored(name(MODULE)) }
    }

    /// Adds 1 to `n` there.
    async fn add(&self, module: ModuleRef, n: i32) {
        let args = Args::Values(vec![Value::S32(n), Value::S32(1)]);
        let sum = self.run(module, "add", args).await;
        assert_eq!(sum.result.unwrap(), Some(Value::S32(n.wrapping_add(1))));
    }

    async fn run(&self, module: ModuleRef, function: &str, args: Args) -> Outcome {
        let call = Call::new(Target::function(module, function), args).want_type(false);
        self.handle.run(self.node.clone(), call, Stdio::new(&Limits::default())).await
    }

    /// Sends bytes there and back; returns the nanoseconds.
    fn echo(&self, bytes: &Value) -> f64 {
        let size = length(bytes);
        let args = Args::Values(vec![bytes.clone()]);
        let began = Instant::now();
        let back = wait(self.run(self.large.clone(), "echo", args)).unwrap();
        let took = nanos(began);
        assert_eq!(length(&back.result.unwrap().unwrap()), size);
        took
    }
}

/// Answers requests until standard input ends.
pub fn work(home: &Path) {
    let handle = node_here(home, "near", &["far", "farther"]);
    let here = There::new(&handle, None);
    let unix = There::new(&handle, Some(name("far")));
    let tls = There::new(&handle, Some(name("farther")));
    serve("", |request, numbers| {
        let (place, what) = request.split_once('-').unwrap();
        let there = match place {
            "here" => &here,
            "unix" => &unix,
            _ => &tls,
        };
        let (what, live) = match what.split_once('-') {
            Some((what, kind)) => (what, kind == "live"),
            None => (what, true),
        };
        let (calls, other) = (numbers[0], numbers.get(1).copied());
        Ok(match what {
            "batches" => batches(there, live, calls, other.unwrap()),
            "each" => each(there, live, calls),
            "flight" => vec![flight(there, live, calls, other.unwrap())],
            "tasks" => vec![tasks(there, live, calls, other.unwrap())],
            "echo" => {
                let bytes = bytes(other.unwrap());
                (0..calls).map(|_| there.echo(&bytes)).collect()
            }
            "beside" => beside(there, calls, other.unwrap()),
            _ => return Err(format!("{request} is unknown")),
        })
    });
    workers().unwrap().block_on(handle.shut_down());
}

/// Awaits one call after another, and measures them in batches, because reading the clock costs as much as a part of
/// a local call.
fn batches(there: &There, live: bool, calls: usize, batch: usize) -> Vec<f64> {
    wait(async {
        let mut times = Vec::new();
        for _ in 0..calls / batch {
            let began = Instant::now();
            for n in 0..batch as i32 {
                there.add(there.module(live), n).await;
            }
            times.push(nanos(began) / batch as f64);
        }
        times
    })
    .unwrap()
}

/// A thread makes calls and waits for each.
fn each(there: &There, live: bool, calls: usize) -> Vec<f64> {
    let times = (0..calls as i32).map(|n| {
        let module = there.module(live);
        let began = Instant::now();
        wait(there.add(module, n)).unwrap();
        nanos(began)
    });
    times.collect()
}

/// A thread that waits keeps this many calls in flight. Returns the time per call.
fn flight(there: &There, live: bool, calls: usize, most: usize) -> f64 {
    wait(async {
        let began = Instant::now();
        let mut flying = FuturesUnordered::new();
        for n in 0..calls as i32 {
            if flying.len() == most {
                flying.next().await;
            }
            flying.push(there.add(there.module(live), n));
        }
        while flying.next().await.is_some() {}
        nanos(began) / calls as f64
    })
    .unwrap()
}

/// This many tasks on the process's workers make the calls. Returns the time per call.
fn tasks(there: &There, live: bool, calls: usize, tasks: usize) -> f64 {
    let each = calls / tasks;
    workers().unwrap().block_on(async {
        let began = Instant::now();
        let tasks: Vec<_> = (0..tasks)
            .map(|_| {
                let there = there.clone();
                tokio::spawn(async move {
                    for n in 0..each as i32 {
                        there.add(there.module(live), n).await;
                    }
                })
            })
            .collect();
        let count = tasks.len();
        for task in tasks {
            task.await.unwrap();
        }
        nanos(began) / (each * count) as f64
    })
}

/// Makes small calls while another thread sends large values there and back.
fn beside(there: &There, calls: usize, size: usize) -> Vec<f64> {
    let (stop, echoes) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let bytes = bytes(size);
            while !stop.load(Ordering::Relaxed) {
                there.echo(&bytes);
                echoes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut times = Vec::new();
        while times.len() < calls || echoes.load(Ordering::Relaxed) < 4 {
            assert!(Instant::now() < deadline, "{echoes:?} echoes end within a minute");
            // The first echo opens the bulk connection; calls beside it do not count.
            let begun = echoes.load(Ordering::Relaxed) > 0;
            let some = each(there, true, 50);
            times.extend(begun.then_some(some).into_iter().flatten());
        }
        stop.store(true, Ordering::Relaxed);
        times
    })
}

fn bytes(size: usize) -> Value {
    Value::List(List::U8((0..size).map(|index| (index % 251) as u8).collect()))
}

fn length(value: &Value) -> usize {
    match value {
        Value::List(list) => list.len(),
        _ => 0,
    }
}

pub fn nanos(began: Instant) -> f64 {
    began.elapsed().as_nanos() as f64
}
