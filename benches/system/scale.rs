//! How GVM grows: registrations on one gpmd, live instances in one node, sessions on one node, calls in flight.
//!
//! In: nothing. Out: for 10, 100, 1,000 and 10,000 of each, the memory of the serving process per each, and the latency of
//! one more request. Must not know: the internals of a node. The clients are many, and live in this process; what they
//! use is real: sockets, gpmd, nodes.

use std::path::Path;
use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use gvm_host::gpmd::control::Control;
use gvm_host::gpmd::link::{Link, Told, Us};
use gvm_host::gpmd::route::Route;
use gvm_host::{Applicant, Args, Call, Handle, Life, Limits, ModuleRef, Stdio, Target, Value, wait, workers};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::memory::resident;
use super::ours::nanos;
use super::place::{MODULE, Place, name, node_here};
use super::worker::{Worker, serve};

const STEPS: [usize; 4] = [10, 100, 1000, 10_000];

/// How many requests of each kind are measured at each step.
const SAMPLES: usize = 200;

/// Prints one table after another. `only` selects by title.
pub fn scale(only: &[String]) {
    raise_descriptors();
    let parts: [(&str, fn()); 4] = [
        ("registrations", registrations),
        ("instances", instances),
        ("sessions", sessions),
        ("flight", flight),
    ];
    for (title, part) in parts {
        if only.is_empty() || only.iter().any(|word| title.contains(word.as_str())) {
            part();
        }
    }
}

/// The nodes of this process need more open files than the usual limit.
pub fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// A table with a line per step.
struct Table(Vec<Vec<f64>>);

impl Table {
    fn new(title: &str, columns: &[&str]) -> Table {
        let columns: Vec<String> = columns.iter().map(|column| format!("{column:>22}")).collect();
        println!("\n{title:<26}{}", columns.concat());
        Table(Vec::new())
    }

    /// Prints a line. The cells are memory per each in KiB, and pairs of latencies in nanoseconds.
    fn line(&mut self, count: usize, kib: f64, latencies: &[&[f64]]) {
        let mut line = format!("{count:<26}{kib:>22.1}");
        let mut medians = vec![kib];
        for times in latencies {
            let mut times = times.to_vec();
            times.sort_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize] / 1e3;
            line += &format!("{:>22}", format!("{:.1} / {:.1}", at(0.5), at(0.99)));
            medians.push(at(0.5));
        }
        println!("{line}");
        self.0.push(medians);
    }
}

fn add(instance: &ModuleRef, n: i32) -> Call {
    let args = Args::Values(vec![Value::S32(n), Value::S32(1)]);
    Call::new(Target::function(instance.clone(), "add"), args).want_type(false)
}

fn stdio() -> Stdio {
    Stdio::new(&Limits::default())
}

/// Nodes that register, as nodes do, with their subscription to the index and their heartbeats.
fn registrations() {
    let place = Place::start();
    let gpmd = place.gpmd.id();
    let mut table = Table::new(
        "registrations, gpmd",
        &["KiB each", "register, µs", "look up, µs", "discover, µs", "upload, µs"],
    );
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async {
        let before = resident(gpmd).unwrap();
        let mut links = Vec::new();
        for most in STEPS {
            let mut registering = Vec::new();
            while links.len() < most {
                let n = links.len();
                let life = Life { id: uuid::Uuid::from_u128(n as u128 + 1), incarnation: 1 };
                let addresses = vec![
                    format!("unix:{}", place.home.node_socket(life.id, 1).display()),
                    format!("tcp:127.0.0.1:{}", 1024 + n),
                ];
                let applicant = Applicant {
                    name: Some(name(&format!("node-{n}"))),
                    life,
                    addresses,
                    accepts: Vec::new(),
                };
                let us = Us::new(applicant).unwrap();
                let began = Instant::now();
                let link = Link::connect(&place.home, Route::nodes(&place.home), us, Told::default()).await;
                registering.push(nanos(began));
                links.push(link.unwrap());
            }
            registering.drain(..registering.len().saturating_sub(SAMPLES));
            let used = (resident(gpmd).unwrap() - before) / most as f64 / 1024.0;
            let (link, _) = &links[most / 2];
            let (mut finding, mut listing, mut uploading) = (Vec::new(), Vec::new(), Vec::new());
            for n in 0..SAMPLES {
                let wanted = name(&format!("node-{}", n * 7919 % most));
                let began = Instant::now();
                link.look_up(&wanted).await.unwrap();
                finding.push(nanos(began));
            }
            for _ in 0..SAMPLES / 10 {
                let began = Instant::now();
                assert_eq!(link.discover().await.unwrap().len(), most);
                listing.push(nanos(began));
            }
            for n in 0..3 {
                // A change is acknowledged when every node has seen it.
                let (home, began) = (place.home.clone(), Instant::now());
                let text = format!("(module (func (export \"f{most}-{n}\")))");
                let bytes = gvm_host::inspect::to_binary(text.as_bytes()).unwrap().into_owned();
                tokio::task::spawn_blocking(move || {
                    let version = semver::Version::new(1, most as u64, n);
                    let control = Control::connect(&home).unwrap();
                    control.upload(&name("empty"), &version, &bytes, &mut |_| {}).unwrap();
                })
                .await
                .unwrap();
                uploading.push(nanos(began));
            }
            table.line(most, used, &[&registering, &finding, &listing, &uploading]);
        }
    });
}

/// Live instances in one node, in a process of its own.
fn instances() {
    let place = Place::start();
    let worker = Worker::role(&["scale-instances", place.home.path().to_str().unwrap()]);
    let mut worker = worker.unwrap();
    let mut table = Table::new("live instances, a node", &["KiB each", "spawn, µs", "call, µs"]);
    for most in STEPS {
        let answers = ["grow", "spawns", "calls"].map(|word| worker.ask(&format!("{word} {most}")));
        match answers {
            [Ok(used), Ok(spawning), Ok(calling)] => table.line(most, used[0], &[&spawning, &calling]),
            answers => {
                let error = answers.into_iter().find_map(Result::err);
                return println!("{most:<26} fails: {}", error.unwrap_or_default());
            }
        }
    }
}

/// The worker of [`instances`].
pub fn instances_worker(home: &Path) {
    raise_descriptors();
    let node = node_here(home, "holder", &[]);
    let own = std::process::id();
    let mut live = Vec::new();
    let mut spawning = Vec::new();
    let call = |instance: &ModuleRef, n: i32| {
        let began = Instant::now();
        let sum = wait(node.run(None, add(instance, n), stdio())).unwrap();
        let took = nanos(began);
        assert_eq!(sum.result.unwrap(), Some(Value::S32(n + 1)));
        took
    };
    let mut before = None;
    serve("", |word, numbers| {
        let most = numbers[0];
        Ok(match word {
            "grow" => {
                spawning.clear();
                while live.len() < most {
                    let target = Target::main(ModuleRef::stored(name(MODULE)));
                    let began = Instant::now();
                    let made = wait(node.spawn(None, target, Limits::default())).and_then(|made| made);
                    spawning.push(nanos(began));
                    let made = made.map_err(|error| format!("instance {}: {error}", live.len() + 1))?;
                    live.push(ModuleRef::Instance(made));
                    call(&live[live.len() - 1], 1);
                    if before.is_none() {
                        before = Some(resident(own)?);
                    }
                }
                let used = resident(own)? - before.unwrap_or_default();
                vec![used / most as f64 / 1024.0]
            }
            "spawns" => spawning.split_off(spawning.len().saturating_sub(SAMPLES)),
            _ => (0..10 * SAMPLES).map(|n| call(&live[n * 7919 % live.len()], n as i32)).collect(),
        })
    });
}

/// Nodes of this process, each with a session on the node `far`.
fn connected(place: &Place, count: usize, nodes: &mut Vec<(Handle, ModuleRef)>) -> Vec<f64> {
    let far: gvm_host::NodeName = name("far");
    let mut connecting = Vec::new();
    while nodes.len() < count {
        let node = node_here(place.home.path(), &format!("near-{}", nodes.len()), &[]);
        let began = Instant::now();
        workers().unwrap().block_on(node.connect(far.clone())).unwrap();
        connecting.push(nanos(began));
        let target = Target::main(ModuleRef::stored(name(MODULE)));
        let live = workers().unwrap().block_on(node.spawn(Some(far.clone()), target, Limits::default()));
        nodes.push((node, ModuleRef::Instance(live.unwrap())));
    }
    connecting.split_off(connecting.len().saturating_sub(SAMPLES))
}

/// Sessions on one node, each with one live instance.
fn sessions() {
    let place = Place::start();
    let far = place.node("far");
    let mut table = Table::new(
        "sessions, a node",
        &["KiB each", "connect, µs", "call, µs", "calls of all, µs", "discover, µs"],
    );
    let mut nodes = Vec::new();
    let before = resident(far.id()).unwrap();
    for most in &STEPS[..3] {
        let connecting = connected(&place, *most, &mut nodes);
        let used = (resident(far.id()).unwrap() - before) / *most as f64 / 1024.0;
        let call = |of: usize| {
            let (node, live) = &nodes[of % nodes.len()];
            let began = Instant::now();
            let sum = workers().unwrap().block_on(node.run(Some(name("far")), add(live, 1), stdio()));
            let took = nanos(began);
            assert_eq!(sum.result.unwrap(), Some(Value::S32(2)));
            took
        };
        let one: Vec<f64> = (0..SAMPLES).map(|_| call(0)).collect();
        let all: Vec<f64> = (0..SAMPLES.max(*most)).map(|n| call(n * 7919)).collect();
        let discover = |_| {
            let began = Instant::now();
            assert!(workers().unwrap().block_on(nodes[0].0.discover()).unwrap().len() > *most);
            nanos(began)
        };
        let listing: Vec<f64> = (0..20).map(discover).collect();
        table.line(*most, used, &[&connecting, &one, &all, &listing]);
    }
    shut_down(nodes);
}

/// Calls in flight over at most a hundred sessions.
fn flight() {
    let place = Place::start();
    let far = place.node("far");
    let mut nodes = Vec::new();
    connected(&place, 100, &mut nodes);
    let mut table = Table::new("calls in flight, a node", &["KiB each", "a call, µs", "per call, µs"]);
    for most in STEPS {
        let before = resident(far.id()).unwrap();
        let sessions = most.min(100);
        let each = most / sessions;
        let began = Instant::now();
        // Each place is filled this many times.
        let turns = (20_000 / most).max(2);
        let tasks: Vec<_> = nodes[..sessions]
            .iter()
            .map(|(node, live)| {
                let (node, live) = (node.clone(), live.clone());
                workers().unwrap().spawn(async move {
                    let mut times = Vec::new();
                    let mut flying = FuturesUnordered::new();
                    let call = |n: usize| {
                        let run = node.run(Some(name("far")), add(&live, n as i32), stdio());
                        async move {
                            let began = Instant::now();
                            let sum = run.await;
                            assert_eq!(sum.result.unwrap(), Some(Value::S32(n as i32 + 1)));
                            nanos(began)
                        }
                    };
                    (0..each).for_each(|n| flying.push(call(n)));
                    for n in each..each * turns {
                        times.extend(flying.next().await);
                        flying.push(call(n));
                    }
                    while let Some(time) = flying.next().await {
                        times.push(time);
                    }
                    times
                })
            })
            .collect();
        let times: Vec<f64> = workers().unwrap().block_on(async {
            let mut all = Vec::new();
            for task in tasks {
                all.append(&mut task.await.unwrap());
            }
            all
        });
        let per_call = nanos(began) / times.len() as f64;
        let used = (resident(far.id()).unwrap() - before) / most as f64 / 1024.0;
        table.line(most, used, &[&times, &[per_call]]);
    }
    shut_down(nodes);
}

fn shut_down(nodes: Vec<(Handle, ModuleRef)>) {
    workers().unwrap().block_on(async {
        let ending: FuturesUnordered<_> = nodes.iter().map(|(node, _)| node.shut_down()).collect();
        ending.collect::<Vec<()>>().await;
    });
}
