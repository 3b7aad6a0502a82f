//! Stopped processes are noticed within seconds, and not too early.
//!
//! In: `gvm` and `gpmd` as processes, and signals. Out: events and the errors of running calls. Must not
//! know: how silence is detected.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gvm_host::Stdio as GuestStdio;
use gvm_host::gpmd::control::Control;
use gvm_host::{
    Args, Call, Code, Config, Effect, Event, Handle, Home, Limits, ModuleRef, Target, inspect, workers,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::nodes::engine;

/// How long it may take to notice a silent process. A cut cable must be noticed as fast, on both sides.
const NOTICED: Duration = Duration::from_secs(10);

struct Process(Child);

impl Process {
    fn start(program: &str, home: &Path, args: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.arg("--home").arg(home).args(args).stdin(Stdio::piped());
        Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn retry<T>(mut get: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(got) = get() {
            return got;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it did not happen in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn next(events: &mut tokio::sync::broadcast::Receiver<Event>, within: Duration) -> Option<Event> {
    tokio::time::timeout(within, events.recv()).await.ok().map(Result::unwrap)
}

#[test]
fn a_stopped_node_is_down_and_a_stopped_gpmd_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(folder.path().join("home")).unwrap();
    let start = ["start", "--foreground", "--port", "0", "--command-port", "0"];
    let gpmd = Process::start(env!("CARGO_BIN_EXE_gpmd"), home.path(), &start);
    let control = retry(|| Control::connect(&home).ok());
    let bytes = inspect::to_binary(b"(module (func (export \"spin\") (loop (br 0))))").unwrap();
    control.upload(&"busy".parse().unwrap(), &semver::Version::new(1, 0, 0), &bytes, &mut |_| {}).unwrap();
    let far = Process::start(env!("CARGO_BIN_EXE_gvm"), home.path(), &["--name", "far"]);
    let live = |name: &str| control.status().unwrap().nodes.iter().any(|node| node.name.as_str() == name);
    retry(|| live("far").then_some(()));
    workers().unwrap().block_on(async {
        let name: gvm_host::NodeName = "far".parse().unwrap();
        let near = Handle::start(Config::new(home.clone(), engine(&home)).name("near".parse().unwrap()));
        let near = near.await.unwrap();
        let mut events = near.events();
        near.connect(name.clone()).await.unwrap();
        let spin = Target {
            module: ModuleRef::Stored { name: "busy".parse().unwrap(), version: None },
            interface: None,
            function: Some("spin".into()),
        };
        let spinning = tokio::spawn({
            let (near, name) = (near.clone(), name.clone());
            let call = Call::new(spin, Args::Text(String::new()));
            async move { near.run(Some(name), call, GuestStdio::new(&Limits::default())).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A short stop is tolerated, and so is a guest that keeps its node busy.
        far.signal(Signal::STOP);
        assert_eq!(next(&mut events, Duration::from_secs(3)).await, None);
        far.signal(Signal::CONT);
        assert_eq!(next(&mut events, Duration::from_secs(9)).await, None);
        assert!(!spinning.is_finished());

        far.signal(Signal::STOP);
        let begun = Instant::now();
        let down = next(&mut events, NOTICED).await;
        assert_eq!(down, Some(Event::Down { name: name.clone(), why: "connection lost".into() }));
        let error = spinning.await.unwrap().result.unwrap_err();
        assert_eq!((error.code(), error.effect()), (Code::NodeDown, Effect::Unknown));
        while near.discover().await.unwrap().len() > 1 {
            assert!(begun.elapsed() < NOTICED);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_secs(4), "{took:?}");

        // It comes back with the same identity.
        far.signal(Signal::CONT);
        let begun = Instant::now();
        while near.connect(name.clone()).await.is_err() {
            assert!(begun.elapsed() < NOTICED);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        gpmd.signal(Signal::STOP);
        // Either side may have reconnected first; only a connection that the other side made is an event.
        let mut lost = next(&mut events, NOTICED).await;
        if lost == Some(Event::Connected { name: name.clone() }) {
            lost = next(&mut events, NOTICED).await;
        }
        assert_eq!(lost, Some(Event::GpmdLost));
        assert_eq!(near.list().await.unwrap().len(), 1, "nodes stay connected");
        gpmd.signal(Signal::CONT);
        assert_eq!(next(&mut events, NOTICED).await, Some(Event::GpmdBack));
        let begun = Instant::now();
        while near.discover().await.unwrap().len() < 2 {
            assert!(begun.elapsed() < NOTICED);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        near.shut_down().await;
    });
    let _ = far.0.stdin.as_ref().map(|mut stdin| stdin.write_all(b"exit\n"));
}
