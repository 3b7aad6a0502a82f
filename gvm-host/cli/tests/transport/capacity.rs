//! Exhausted capacity: too many calls, too many compilers.
//!
//! In: more instances, and more modules, than a process has capacity for. Out: refusals without effects;
//! compilers that end with their callers. Must not know: how capacity is allocated.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gvm_host::daemon::server;
use gvm_host::daemon::server::{Server, Start};
use gvm_host::gpmd::control::Control;
use gvm_host::{
    Args, Call, Caller, Code, Compiler, Config, Effect, Engine, EngineConfig, Grants, Handle, Home, Limits,
    ModuleRef, Modules, Runner, Stdio, Target, Value, inspect, limits, workers,
};

fn engine(home: &Home, pooling: bool) -> Engine {
    let compiler = Compiler::program(env!("CARGO_BIN_EXE_gvm")).args(["__compile"]);
    Engine::new(EngineConfig::new(home.compiled(), compiler).pooling(pooling))
}

fn home() -> (tempfile::TempDir, Home, Server) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(folder.path().join("home")).unwrap();
    let Start::Started(server) = Server::start(server::Config::new(home.clone())).unwrap() else {
        panic!("another runs")
    };
    (folder, home, server)
}

const COUNTER: &[u8] =
    b"(module (global $n (mut i32) (i32.const 0)) (func (export \"increment\") (result i32)
    (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))";

/// Every live instance that has run keeps a stack, and the number of stacks is limited. A call that gets no
/// stack does not begin, and leaves its instance as it is.
#[test]
fn a_refused_call_leaves_its_instance_alone() {
    let (_folder, home, _server) = home();
    let counter = inspect::to_binary(COUNTER).unwrap();
    let control = Control::connect(&home).unwrap();
    control
        .upload(&"counter".parse().unwrap(), &semver::Version::new(1, 0, 0), &counter, &mut |_| {})
        .unwrap();
    let modules = Modules::open(home.clone()).unwrap();
    let runner = Runner::new(engine(&home, true), modules, Grants::default(), Limits::default());
    let stored = Target {
        module: ModuleRef::Stored { name: "counter".parse().unwrap(), version: None },
        interface: None,
        function: None,
    };
    workers().unwrap().block_on(async {
        // Each owner has as many instances as it may have.
        let per_owner = limits::INSTANCES_OF_USERS;
        let owners = limits::live_pool() as usize / per_owner + 1;
        let owners: Vec<Caller> = (0..owners).map(|_| Caller::default()).collect();
        let mut all = Vec::new();
        for owner in &owners {
            for index in 0..per_owner {
                let name: gvm_host::Name = format!("i{index}").parse().unwrap();
                if runner.spawn(owner, name.clone(), &stored, Limits::default()).await.is_ok() {
                    all.push((owner, name));
                }
            }
        }
        let increment = async |owner: &Caller, name: &gvm_host::Name| {
            let target = Target {
                module: ModuleRef::Instance(name.clone()),
                interface: None,
                function: Some("increment".into()),
            };
            let call = Call::new(target, Args::Values(Vec::new()));
            runner.run(owner, call, Stdio::new(&Limits::default())).await.result
        };
        let mut refused = Vec::new();
        for (owner, name) in &all {
            match increment(owner, name).await {
                Ok(value) => assert_eq!(value, Some(Value::S32(1))),
                Err(error) => {
                    assert_eq!((error.code(), error.effect()), (Code::Overloaded, Effect::NotStarted));
                    refused.push((*owner, name.clone()));
                }
            }
        }
        // There are more instances than stacks, so some calls are refused.
        assert!(!refused.is_empty(), "all {} got a stack", all.len());
        owners[0].held.clear();
        let kept = refused.iter().filter(|(owner, _)| !std::ptr::eq(*owner, &owners[0]));
        for (owner, name) in kept.take(per_owner) {
            assert_eq!(increment(owner, name).await.unwrap(), Some(Value::S32(1)), "{name} kept its state");
        }
    });
}

/// Returns a module that takes some seconds to compile; each number gives another module.
fn slow(number: usize) -> Arc<[u8]> {
    let body = "local.get 0 local.get 0 i32.mul i32.const 7 i32.add local.set 0 ".repeat(400);
    let functions: String =
        (0..250).map(|_| format!("(func (param i32) (result i32) {body} local.get 0)")).collect();
    let text = format!("(module {functions} (func (export \"number\") (result i32) (i32.const {number})))");
    inspect::to_binary(text.as_bytes()).unwrap().into()
}

/// Counts the compiler processes that run for this home now.
fn compilers(home: &Home) -> usize {
    let home = home.path().to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let compiles = |line: &Vec<u8>| {
        let line = String::from_utf8_lossy(line);
        line.contains("__compile") && line.contains(home)
    };
    lines.filter(compiles).count()
}

fn number(bytes: Arc<[u8]>) -> Call {
    let target =
        Target { module: ModuleRef::Bytes(bytes.into()), interface: None, function: Some("number".into()) };
    Call::new(target, Args::Values(Vec::new()))
}

#[test]
fn compilers_are_limited_and_end_with_their_callers() {
    let (_folder, home, _server) = home();
    workers().unwrap().block_on(async {
        let start = async |name: &str| {
            let name = name.parse().unwrap();
            Handle::start(Config::new(home.clone(), engine(&home, false)).name(name)).await.unwrap()
        };
        let (near, far) = (start("near").await, start("far").await);
        near.connect(far.name().clone()).await.unwrap();
        for (there, most) in [(true, limits::compilers_per_peer()), (false, limits::compilers())] {
            let modules: Vec<_> = (0..most + 6).map(|index| slow(index + 100 * usize::from(there))).collect();
            let calls: Vec<_> = modules
                .iter()
                .map(|bytes| {
                    let (near, far, call) = (near.clone(), far.name().clone(), number(bytes.clone()));
                    tokio::spawn(async move {
                        let stdio = Stdio::new(&Limits::default());
                        match there {
                            true => near.run(Some(far), call, stdio).await,
                            false => near.run(None, call, stdio).await,
                        }
                    })
                })
                .collect();
            let (begun, mut seen) = (Instant::now(), HashMap::<usize, u32>::new());
            while begun.elapsed() < Duration::from_secs(2) {
                *seen.entry(compilers(&home)).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let peak = seen.keys().copied().max().unwrap_or(0);
            assert!((1..=most).contains(&peak), "at once: {seen:?}, and at most {most} may");
            calls.iter().for_each(|call| call.abort());
            let begun = Instant::now();
            while compilers(&home) > 0 {
                assert!(begun.elapsed() < Duration::from_secs(3), "{} still compile", compilers(&home));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        // A cancelled call does not stop another call that waits for the same module.
        let bytes = slow(1000);
        let (impatient, patient) = (near.clone(), near.clone());
        let (first, second) = (number(bytes.clone()), number(bytes));
        let first =
            tokio::spawn(async move { impatient.run(None, first, Stdio::new(&Limits::default())).await });
        let second =
            tokio::spawn(async move { patient.run(None, second, Stdio::new(&Limits::default())).await });
        while compilers(&home) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        first.abort();
        assert_eq!(second.await.unwrap().result.unwrap(), Some(Value::S32(1000)));
        near.shut_down().await;
        far.shut_down().await;
    });
}

/// The same for describing a function and making an instance on another node.
#[test]
fn looking_and_bringing_to_life_end_with_who_asked() {
    let (_folder, home, _server) = home();
    workers().unwrap().block_on(async {
        let start = async |name: &str, timeout| {
            let name = name.parse().unwrap();
            let limits = Limits { timeout, ..Limits::default() };
            let config = Config::new(home.clone(), engine(&home, false));
            Handle::start(config.name(name).limits(limits)).await.unwrap()
        };
        let (near, far) = (start("near", None).await, start("far", None).await);
        let brief = start("brief", Some(Duration::from_millis(200))).await;
        near.connect(far.name().clone()).await.unwrap();
        brief.connect(far.name().clone()).await.unwrap();
        let target = |number, function: Option<&str>| Target {
            module: ModuleRef::Bytes(slow(number).into()),
            interface: None,
            function: function.map(str::to_owned),
        };
        let compile = async |running: bool| {
            let begun = Instant::now();
            while (compilers(&home) > 0) != running {
                assert!(begun.elapsed() < Duration::from_secs(20), "compilers: {}", compilers(&home));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            begun.elapsed()
        };
        for spawns in [false, true] {
            let target = target(2000 + usize::from(spawns), (!spawns).then_some("number"));
            let (near, far) = (near.clone(), far.name().clone());
            let asking = tokio::spawn(async move {
                match spawns {
                    true => near.spawn(Some(far), target, Limits::default()).await.map(drop),
                    false => near.describe(Some(far), target).await.map(drop),
                }
            });
            compile(true).await;
            asking.abort();
            let took = compile(false).await;
            assert!(took < Duration::from_secs(3), "{took:?}");
            assert!(asking.await.unwrap_err().is_cancelled());
        }
        // They end in their own time limit, which the other node knows.
        for spawns in [false, true] {
            let target = target(3000 + usize::from(spawns), (!spawns).then_some("number"));
            let begun = Instant::now();
            let ended = match spawns {
                true => brief.spawn(Some(far.name().clone()), target, Limits::default()).await.map(drop),
                false => brief.describe(Some(far.name().clone()), target).await.map(drop),
            };
            let error = ended.unwrap_err();
            assert_eq!((error.code(), error.effect()), (Code::Timeout, Effect::NotStarted), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
            compile(false).await;
        }
        assert_eq!(near.instances(), []);
        for node in [near, brief, far] {
            node.shut_down().await;
        }
    });
}

/// Peers that fill a node with calls that never end leave room for others: for the users of the node, and for a peer with few calls.
#[test]
fn greedy_peers_leave_room() {
    let (_folder, home, _server) = home();
    let module = |text: &[u8]| ModuleRef::Bytes(Arc::<[u8]>::from(inspect::to_binary(text).unwrap()).into());
    let spin = module(b"(module (func (export \"spin\") (loop $again (br $again))))");
    let counter = module(COUNTER);
    let call = |module: &ModuleRef, function: &str| {
        let (module, function) = (module.clone(), Some(function.into()));
        Call::new(Target { module, interface: None, function }, Args::Values(Vec::new()))
    };
    workers().unwrap().block_on(async {
        let start = async |name: &str| {
            let config = Config::new(home.clone(), engine(&home, true));
            Handle::start(config.name(name.parse().unwrap())).await.unwrap()
        };
        let far = start("far").await;
        let (polite, greedy) = (start("polite").await, ["a", "b", "c", "d"].map(start));
        let greedy = futures::future::join_all(greedy).await;
        polite.connect(far.name().clone()).await.unwrap();
        let mut calls = Vec::new();
        for (number, peer) in greedy.iter().enumerate() {
            peer.connect(far.name().clone()).await.unwrap();
            // More than may run, and once as many as one session may have.
            let many = if number == 0 { limits::CALLS_PER_SESSION } else { limits::CALLS_OF_PEER + 10 };
            for _ in 0..many {
                let (peer, far, call) = (peer.clone(), far.name().clone(), call(&spin, "spin"));
                calls.push(tokio::spawn(async move {
                    peer.run(Some(far), call, Stdio::new(&Limits::default())).await
                }));
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for (node, place) in [(&far, None), (&polite, Some(far.name().clone()))] {
            let mut took = Vec::new();
            for _ in 0..100 {
                let begun = Instant::now();
                let add = call(&counter, "increment");
                let ran = node.run(place.clone(), add, Stdio::new(&Limits::default())).await;
                assert_eq!(ran.result.unwrap(), Some(Value::S32(1)));
                took.push(begun.elapsed());
            }
            took.sort();
            eprintln!("the call of a neighbour: half {:?}, 99 of 100 {:?}", took[50], took[98]);
        }
        // More than a session may have is refused before it starts.
        let refused = greedy[0]
            .run(Some(far.name().clone()), call(&spin, "spin"), Stdio::new(&Limits::default()))
            .await
            .result
            .unwrap_err();
        assert_eq!((refused.code(), refused.effect()), (Code::Overloaded, Effect::NotStarted));
        calls.iter().for_each(|call| call.abort());
        for node in greedy.into_iter().chain([polite, far]) {
            node.shut_down().await;
        }
    });
}
