//! The time of a remote `add` on a fresh instance, compared with a minimal capnp-rpc `add` over the same kind
//! of socket.
//!
//! In: the number of calls. Out: medians in microseconds, their ratios, and where the time is spent, all from
//! one run. Must not know: how a node runs a call. The measurements are interleaved, so that noise on the
//! machine affects all of them. Run it with `cargo bench -p gvm-cli --bench remote_add [CALLS]`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark prints, and stops at the first error"
)]

#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::unimplemented,
    clippy::unwrap_used,
    dead_code,
    unused_qualifications,
    missing_docs,
    reason = "generated"
)]
#[rustfmt::skip]
mod add_capnp;
#[path = "../../tests/pair/mod.rs"]
mod pair;

use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use add_capnp::adder;
use gvm_host::Stdio as GuestStdio;
use gvm_host::internals::wire::rpc::{Connection, MessageLimits, Side};
use gvm_host::net::{Address, Listener, Transport, dial};
use gvm_host::{Args, Call, Limits, ModuleRef, Target, Value, workers};
use pair::{Pair, Process, name};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The number of calls before the next measurement takes its turn.
const ROUND: usize = 500;

const ADD: &str = r#"(module (func (export "add") (param i32 i32) (result i32)
  (i32.add (local.get 0) (local.get 1))))"#;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        Some("serve") => serve(Path::new(&args.next().unwrap()), args.next().unwrap() == "ours"),
        calls => measure(calls.map_or(20_000, |calls| calls.parse().unwrap())),
    }
}

struct Adder;

impl adder::Server for Adder {
    async fn add(
        self: Rc<Self>,
        params: adder::AddParams,
        mut results: adder::AddResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        results.get().set_sum(params.get_a().wrapping_add(params.get_b()));
        Ok(())
    }
}

fn runtime() -> tokio::runtime::LocalRuntime {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap()
}

/// The usual way to use capnp-rpc: both halves of the socket are buffered and flushed after each message.
fn usual(
    transport: Transport,
    side: capnp_rpc::rpc_twoparty_capnp::Side,
    first: Option<capnp::capability::Client>,
) -> capnp_rpc::RpcSystem<capnp_rpc::rpc_twoparty_capnp::Side> {
    let (reader, writer) = tokio::io::split(transport);
    let reader = futures::io::BufReader::new(reader.compat());
    let writer = futures::io::BufWriter::new(writer.compat_write());
    let network = capnp_rpc::twoparty::VatNetwork::new(reader, writer, side, Default::default());
    capnp_rpc::RpcSystem::new(Box::new(network), first)
}

fn serve(path: &Path, ours: bool) {
    runtime().block_on(async {
        let listener = Listener::bind(path).unwrap();
        println!("ready");
        let transport = listener.accept().await.unwrap();
        let client: adder::Client = capnp_rpc::new_client(Adder);
        if ours {
            Connection::start(transport, Side::Accepted, MessageLimits::SESSION, Some(client.client))
                .closed()
                .await;
        } else {
            let _ = usual(transport, capnp_rpc::rpc_twoparty_capnp::Side::Server, Some(client.client)).await;
        }
    });
}

/// A minimal server in a separate process, and a thread here that calls it on request.
struct Bare {
    _server: Process,
    ask: std::sync::mpsc::Sender<(usize, std::sync::mpsc::Sender<Vec<Duration>>)>,
}

impl Bare {
    fn start(folder: &Path, ours: bool) -> Bare {
        use std::io::BufRead;
        let path = folder.join(if ours { "ours" } else { "usual" });
        let mut server = Command::new(std::env::current_exe().unwrap())
            .args(["serve", path.to_str().unwrap(), if ours { "ours" } else { "usual" }])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::BufReader::new(server.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        let (ask, asked) = std::sync::mpsc::channel::<(usize, std::sync::mpsc::Sender<Vec<Duration>>)>();
        std::thread::spawn(move || {
            runtime().block_on(async {
                let transport = dial(&Address::Unix(path), None).await.unwrap();
                let connection;
                let adder: adder::Client = if ours {
                    connection = Connection::start(transport, Side::Dialled, MessageLimits::SESSION, None);
                    connection.first()
                } else {
                    let mut system = usual(transport, capnp_rpc::rpc_twoparty_capnp::Side::Client, None);
                    let first = system.bootstrap(capnp_rpc::rpc_twoparty_capnp::Side::Server);
                    tokio::task::spawn_local(system);
                    first
                };
                while let Ok((calls, reply)) = asked.recv() {
                    let mut times = Vec::with_capacity(calls);
                    for n in 0..calls as i32 {
                        let started = Instant::now();
                        let mut request = adder.add_request();
                        request.get().set_a(n);
                        request.get().set_b(1);
                        let sum = request.send().promise.await.unwrap().get().unwrap().get_sum();
                        times.push(started.elapsed());
                        assert_eq!(sum, n + 1);
                    }
                    reply.send(times).unwrap();
                }
            });
        });
        Bare { _server: Process(server), ask }
    }

    fn round(&self, calls: usize) -> Vec<Duration> {
        let (reply, times) = std::sync::mpsc::channel();
        self.ask.send((calls, reply)).unwrap();
        times.recv().unwrap()
    }
}

fn add_call(n: i32) -> Call {
    let module = ModuleRef::Stored { name: "add".parse().unwrap(), version: None };
    let target = Target { module, interface: None, function: Some("add".into()) };
    let mut call = Call::new(target, Args::Values(vec![Value::S32(n), Value::S32(1)]));
    call.want_type = false;
    call
}

fn timed<T>(calls: usize, mut call: impl FnMut(i32) -> T, check: impl Fn(i32, T)) -> Vec<Duration> {
    (0..calls as i32)
        .map(|n| {
            let started = Instant::now();
            let result = call(n);
            let took = started.elapsed();
            check(n, result);
            took
        })
        .collect()
}

fn measure(calls: usize) {
    let pair = Pair::start("add", ADD.as_bytes());
    let (near, far, workers) = (&pair.near, name("far"), workers().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let usual = Bare::start(folder.path(), false);
    let ours = Bare::start(folder.path(), true);
    let stdio = || GuestStdio::new(&Limits::default());
    let sum =
        |n: i32, outcome: gvm_host::Outcome| assert_eq!(outcome.result.unwrap(), Some(Value::S32(n + 1)));
    let mut rows: [(&str, Vec<Duration>); 6] = [
        ("bare add, capnp-rpc as usual", vec![]),
        ("bare add, our transport", vec![]),
        ("remote add, fresh instance", vec![]),
        ("  the run on the other node", vec![]),
        ("  the hop to the node's thread", vec![]),
        ("local add, fresh instance", vec![]),
    ];
    for round in 0..calls.div_ceil(ROUND) + 1 {
        let mut times = [
            usual.round(ROUND),
            ours.round(ROUND),
            timed(
                ROUND,
                |n| gvm_host::wait(near.run(Some(far.clone()), add_call(n), stdio())).unwrap(),
                |n, outcome| {
                    inside_push(&outcome);
                    sum(n, outcome);
                },
            ),
            INSIDE.with_borrow_mut(std::mem::take),
            timed(ROUND, |_| workers.block_on(near.list()), |_, list| assert_eq!(list.unwrap().len(), 1)),
            timed(ROUND, |n| workers.block_on(near.run(None, add_call(n), stdio())), sum),
        ];
        // The first round warms up.
        if round > 0 {
            rows.iter_mut().zip(&mut times).for_each(|(row, times)| row.1.append(times));
        }
    }
    let base = percentile(&mut rows[0].1, 50);
    println!("{:<34}{:>8}{:>8}{:>8}   {} calls each, µs", "", "p50", "p99", "ratio", rows[0].1.len());
    for (name, times) in &mut rows {
        let (p50, p99) = (percentile(times, 50), percentile(times, 99));
        println!("{name:<34}{p50:>8.1}{p99:>8.1}{:>8.2}", p50 / base);
    }
    workers.block_on(pair.near.shut_down());
}

thread_local! {
    static INSIDE: std::cell::RefCell<Vec<Duration>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn inside_push(outcome: &gvm_host::Outcome) {
    INSIDE.with_borrow_mut(|inside| inside.push(outcome.elapsed));
}

fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort();
    times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e6
}
