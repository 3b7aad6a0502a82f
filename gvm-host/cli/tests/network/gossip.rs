//! Large networks: each device is connected to a few others only. The limit is 3 devices here.

use std::time::Duration;

use gvm_host::{Code, Hash};

use crate::bed::{Device, discovers, run_local, wait};

/// The limit, and so the neighbours of a device.
const SMALL: &str = "3";

/// The device that dies and is removed.
const LAST: &str = "d9";

const DEVICES: usize = 10;

/// The most connections at a quiet moment: to neighbours, and to some devices that could become neighbours.
const MOST_LINKS: usize = 6;

fn start(device: &Device, name: &str) {
    device.ok(&["start", "--device", name]);
}

/// The names of the devices to which one is connected.
fn links(device: &Device) -> Vec<String> {
    let devices = device.network().devices.into_iter();
    devices.filter(|other| other.address.is_some()).map(|other| other.name.to_string()).collect()
}

#[test]
fn a_large_network_works_with_few_connections() {
    let names: Vec<String> = (0..DEVICES).map(|number| format!("d{number}")).collect();
    let all: Vec<Device> = names.iter().map(|_| Device::off_in_networks(SMALL)).collect();
    for (device, name) in all.iter().zip(&names) {
        start(device, name);
        if name != "d0" {
            device.join(&all[0].invite());
        }
    }
    let up = |device: &Device| device.network().devices.iter().filter(|other| other.up).count();
    wait(Duration::from_secs(30), || all.iter().all(|device| up(device) == DEVICES));
    // Connections that only the joins needed end.
    wait(Duration::from_secs(60), || {
        all.iter().all(|device| (1..=MOST_LINKS).contains(&links(device).len()))
    });

    let far = || {
        let near = links(&all[0]);
        (1..DEVICES).find(|number| !near.contains(&names[*number])).unwrap()
    };
    run_local(async {
        let mut nodes = Vec::new();
        for device in &all {
            nodes.push(device.node("here", &[]).await.unwrap());
        }
        for (number, node) in nodes.iter().enumerate() {
            let mut seen: Vec<String> = names
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != number)
                .map(|(_, name)| format!("here@{name}"))
                .collect();
            seen.push("here".into());
            let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
            discovers(node, &seen).await;
        }
        // A name on a device that is no neighbour, right after it registered.
        let far = far();
        let late = all[far].node("late", &[]).await.unwrap();
        let found = nodes[0].look_up(&format!("late@{}", names[far]).parse().unwrap()).await.unwrap();
        assert_eq!(found.life(), late.node().life());
        assert!(!found.addresses.is_empty());
    });

    // Commands and modules of a device that is no neighbour.
    let number = far();
    let module = all[0].file("math.wat", "(module (func (export \"add\")))");
    let file = format!("--file={module}");
    all[0].ok(&["--on", &names[number], "wasm", "upload", "--name=math", "--version=1.0.0", &file]);
    let listed = all[number].json(&["wasm", "list"]);
    assert_eq!(listed[0]["name"], "math");
    run_local(async {
        let node = all[0].node("reader", &[]).await.unwrap();
        let begun = std::time::Instant::now();
        let hash: Hash = loop {
            if let Some(hash) = node.find_module(&"math".parse().unwrap(), None).await.unwrap() {
                break hash;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "the module is found");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        node.fetch_module(hash, None).await.unwrap();
        assert!(all[0].home().fetched_module(hash).exists());
    });

    // A device dies and returns.
    let (last, rest) = all.split_last().unwrap();
    last.kill_hard();
    wait(Duration::from_secs(10), || rest.iter().all(|device| !device.is_up(LAST)));
    last.start();
    wait(Duration::from_secs(10), || rest.iter().all(|device| device.is_up(LAST)));
    wait(Duration::from_secs(10), || up(last) == DEVICES);

    // A device is removed.
    all[0].ok(&["remove", LAST]);
    wait(Duration::from_secs(5), || rest.iter().all(|device| device.names().len() == DEVICES - 1));
    wait(Duration::from_secs(5), || last.network().removed);
    wait(Duration::from_secs(5), || up(last) <= 1);
    all[0].fails(&["--on", LAST, "status"], Code::DeviceNotFound);
}
