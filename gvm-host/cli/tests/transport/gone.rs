//! Callers that leave before the answer arrives, and nodes that do not answer.
//!
//! In: spawns that are cancelled, a node that is suspended. Out: no instance without an owner, and no caller that
//! waits longer than its time limit. Must not know: how the nodes communicate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gvm_host::limits::{DROPPING, INSTANCES_OF_USERS, INSTANCES_PER_SESSION};
use gvm_host::{Code, Config, Error, Handle, Limits, ModuleRef, NodeName, Target, inspect, workers};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::pair::{Pair, guest, name, retry};

fn counter() -> Target {
    Target {
        module: ModuleRef::Stored { name: name("counter"), version: None },
        interface: None,
        function: None,
    }
}

/// A module whose start code never ends.
fn never() -> Target {
    let bytes: Arc<[u8]> = inspect::to_binary(&guest("start-loop.wat")).unwrap().into();
    Target { module: ModuleRef::Bytes(bytes.into()), interface: None, function: None }
}

/// Counts the instances that this owner can still make there.
async fn room(near: &Handle, node: Option<&NodeName>) -> usize {
    let mut made = Vec::new();
    let error = loop {
        match near.spawn(node.cloned(), counter(), Limits::default()).await {
            Ok(name) => made.push(name),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    let count = made.len();
    for name in made {
        near.drop_instance(name).await.unwrap();
    }
    count
}

#[test]
fn a_spawn_that_is_taken_back_leaves_no_instance() {
    let pair = Pair::start("counter", &guest("counter.wat"));
    let far: NodeName = name("far");
    workers().unwrap().block_on(async {
        let near = &pair.near;
        for (node, most) in [(None, INSTANCES_OF_USERS), (Some(&far), INSTANCES_PER_SESSION)] {
            // The usual time of one spawn, once the module is compiled.
            let mut usual = Duration::ZERO;
            for _ in 0..2 {
                let begun = Instant::now();
                let made = near.spawn(node.cloned(), counter(), Limits::default()).await.unwrap();
                near.drop_instance(made).await.unwrap();
                usual = begun.elapsed();
            }
            let (mut taken, mut taken_back) = (0, 0);
            for round in 0..20 * INSTANCES_PER_SESSION as u32 {
                // Cancels at every stage: before the request is sent, during the start code, while the answer is on its way.
                let patience = usual * (round % 64) / 32;
                let spawning = near.spawn(node.cloned(), counter(), Limits::default());
                tokio::select! {
                    biased;
                    spawned = spawning => {
                        near.drop_instance(spawned.unwrap()).await.unwrap();
                        taken += 1;
                    }
                    () = spin_for(patience) => taken_back += 1,
                }
            }
            eprintln!("{node:?}: {taken} taken, {taken_back} cancelled; one takes {usual:?}");
            for _ in 0..3 {
                let spawning = near.spawn(node.cloned(), never(), Limits::default());
                assert!(timeout(Duration::from_millis(300), spawning).await.is_err());
            }
            assert_eq!(near.instances(), []);
            assert_eq!(room(near, node).await, most);
        }
    });
}

/// Waits for a time that is shorter than the resolution of timers.
async fn spin_for(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_stopped_node_keeps_nobody_waiting() {
    const BRIEF: Duration = Duration::from_millis(200);
    /// Includes the extra time in which the other node reports the timeout.
    const LONGEST: Duration = Duration::from_secs(8);
    let pair = Pair::start("counter", &guest("counter.wat"));
    let far: NodeName = name("far");
    workers().unwrap().block_on(async {
        let limits = Limits { timeout: Some(BRIEF), ..Limits::default() };
        let engine = pair.near.runner().engine().clone();
        let config = Config::new(pair.home.clone(), engine).name(name("brief")).limits(limits);
        let brief = Handle::start(config).await.unwrap();
        brief.connect(far.clone()).await.unwrap();
        let held = brief.spawn(Some(far.clone()), counter(), Limits::default()).await.unwrap();
        let increment = Target { function: Some("increment".into()), ..counter() };
        assert!(brief.describe(Some(far.clone()), increment.clone()).await.unwrap().is_some());

        let stopped = Pid::from_child(&pair.far.0);
        kill_process(stopped, Signal::STOP).unwrap();
        let state = format!("/proc/{}/stat", stopped.as_raw_nonzero());
        retry(|| std::fs::read_to_string(&state).unwrap().contains(") T ").then_some(()));
        let begun = Instant::now();
        let described = async { brief.describe(Some(far.clone()), increment.clone()).await.map(drop) };
        let spawned = async { brief.spawn(Some(far.clone()), counter(), Limits::default()).await.map(drop) };
        let dropped = async {
            let dropped = brief.drop_instance(held.clone()).await;
            assert!(begun.elapsed() < DROPPING + Duration::from_secs(1), "{:?}", begun.elapsed());
            dropped
        };
        let all = timeout(LONGEST, futures::future::join3(described, spawned, dropped));
        let (described, spawned, dropped) = all.await.expect("nobody waits beyond the time");
        // The connection may be declared lost at about the same time.
        let late = |error: &Error| matches!(error.code(), Code::Timeout | Code::NodeDown);
        for ended in [described, spawned] {
            assert!(ended.as_ref().is_err_and(late), "{ended:?}");
        }
        assert_eq!(dropped.unwrap_err().code(), Code::Timeout);
        kill_process(stopped, Signal::CONT).unwrap();
        // It undoes the requests that it got meanwhile, or the connection ended and everything with it.
        match brief.drop_instance(held).await {
            Ok(()) => assert_eq!(room(&brief, Some(&far)).await, INSTANCES_PER_SESSION),
            Err(error) => {
                let gone = [Code::InstanceNotFound, Code::NodeDown, Code::NodeNotConnected];
                assert!(gone.contains(&error.code()), "{error}");
            }
        }
        assert_eq!(brief.instances(), []);
        brief.shut_down().await;
    });
}
