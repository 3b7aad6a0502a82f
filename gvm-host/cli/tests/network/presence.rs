//! Which devices are up, and their nodes.

use std::time::Duration;

use gvm_host::Code;
use rustix::process::Signal;

use crate::bed::{Device, discovers, run_local, wait};

#[test]
fn nodes_of_other_devices_come_and_go() {
    let laptop = Device::new("laptop");
    let pi = Device::joined("pi", &laptop);
    run_local(async {
        let here = laptop.node("here", &[]).await.unwrap();
        let far = pi.node("far", &[]).await.unwrap();
        discovers(&here, &["here", "far@pi"]).await;
        discovers(&far, &["far", "here@laptop"]).await;
        let found = here.look_up(&"far@pi".parse().unwrap()).await.unwrap();
        assert_eq!(found.life(), far.node().life());
        let id = laptop.sees("pi").unwrap().id;
        assert_eq!(found.device, Some(id));
        let behind = format!("/{}/{}", found.id, found.incarnation);
        let port = format!(":{}/", pi.port());
        let all = &found.addresses;
        assert!(
            !all.is_empty() && all.iter().all(|at| at.ends_with(&behind) && at.contains(&port)),
            "{all:?}"
        );
        drop(far);
        discovers(&here, &["here"]).await;
    });
}

#[test]
fn a_device_that_is_killed_is_down_and_returns() {
    let laptop = Device::new("laptop");
    let pi = Device::joined("pi", &laptop);
    let port = pi.port();
    run_local(async {
        let here = laptop.node("here", &[]).await.unwrap();
        let far = pi.node("far", &[]).await.unwrap();
        discovers(&here, &["here", "far@pi"]).await;
        pi.kill_hard();
        discovers(&here, &["here"]).await;
        assert!(!laptop.is_up("pi"));
        let down = here.look_up(&"far@pi".parse().unwrap()).await.unwrap_err();
        assert_eq!(down.code(), Code::DeviceDown);
        pi.start();
        assert_eq!(pi.port(), port);
        wait(Duration::from_secs(2), || laptop.is_up("pi"));
        // The node registers again by itself.
        discovers(&here, &["here", "far@pi"]).await;
        drop(far);
    });
}

#[test]
fn a_silent_device_is_down_within_five_seconds_and_returns_within_two() {
    let laptop = Device::new("laptop");
    let pi = Device::joined("pi", &laptop);
    pi.signal(Signal::STOP);
    wait(Duration::from_secs(5), || !laptop.is_up("pi"));
    pi.signal(Signal::CONT);
    wait(Duration::from_secs(2), || laptop.is_up("pi"));
    wait(Duration::from_secs(5), || pi.is_up("laptop"));
    // One connection stays.
    std::thread::sleep(Duration::from_secs(1));
    assert!(laptop.is_up("pi") && pi.is_up("laptop"));
}

#[test]
fn devices_find_each_other_although_only_one_knows_the_other() {
    let laptop = Device::new("laptop");
    let pi = Device::joined("pi", &laptop);
    let tv = Device::joined("tv", &pi);
    for (device, others) in [(&laptop, ["pi", "tv"]), (&pi, ["laptop", "tv"]), (&tv, ["laptop", "pi"])] {
        for other in others {
            wait(Duration::from_secs(5), || device.is_up(other));
        }
    }
    // The file of addresses is a hint only.
    tv.stop();
    std::fs::write(tv.home().addresses(), "nonsense").unwrap();
    tv.start();
    wait(Duration::from_secs(3), || laptop.is_up("tv") && tv.is_up("laptop") && tv.is_up("pi"));
}

#[test]
fn commands_reach_another_device() {
    let laptop = Device::new("laptop");
    let pi = Device::joined("pi", &laptop);
    let status = laptop.json(&["--on", "pi", "status"]);
    assert_eq!(status["home"].as_str(), pi.home().path().to_str());
    let module = laptop.file("math.wat", "(module (func (export \"add\")))");
    let file = format!("--file={module}");
    laptop.ok(&["--on", "pi", "wasm", "upload", "--name=math", "--version=1.0.0", &file]);
    assert_eq!(laptop.json(&["wasm", "list"]).as_array().unwrap().len(), 0);
    for list in [laptop.json(&["--on", "pi", "wasm", "list"]), pi.json(&["wasm", "list"])] {
        assert_eq!(list[0]["name"], "math");
    }
    wait(Duration::from_secs(2), || laptop.sees("pi").unwrap().modules == 1);
    let out = laptop.file("got.wasm", "");
    laptop.ok(&["--on", "pi", "wasm", "get", "math", "--out", &out]);
    assert!(std::fs::read(&out).unwrap().starts_with(b"\0asm"));
    assert!(laptop.ok(&["--on", "pi", "wasm", "show", "math"]).contains("add: func()"));
    laptop.ok(&["--on", "pi", "wasm", "remove", "math"]);
    assert_eq!(pi.json(&["wasm", "list"]).as_array().unwrap().len(), 0);
    laptop.fails(&["--on", "pie", "status"], Code::DeviceNotFound);
    laptop.fails(&["--on", "laptop", "status"], Code::BadArguments);
    laptop.fails(&["--on", "pi", "invite"], Code::Syntax);
    laptop.ok(&["--on", "pi", "kill"]);
    wait(Duration::from_secs(5), || !gvm_host::gpmd::record::is_running(&pi.home()));
    wait(Duration::from_secs(2), || !laptop.is_up("pi"));
    laptop.fails(&["--on", "pi", "status"], Code::DeviceDown);
}
