//! Networks of simulated devices, small enough to be quick: what each device learns, and how soon.
//!
//! In: the simulated network of the example. Out: failures. Must not know: how presence works inside.
//!
//! Each course depends on its seed only, so a bound that holds once holds always.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../examples/simulation/measure.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod measure;
#[path = "../examples/simulation/network.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod network;

use std::time::Duration;

use gvm_gossip::Config;
use measure::{Times, all_up, back, change, churn, cut, death, formed, heal, idle, join};
use network::{Network, Power, payload};

const LOSSES: [f64; 3] = [0.0, 0.05, 0.2];

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[track_caller]
fn within(times: Times, most: f64) {
    let all = times.all.expect("some devices never learnt it");
    assert!(all <= secs(most), "it took {all:?}, more than {most} s");
}

fn settled(devices: usize, loss: f64, seed: u64) -> Network {
    let (mut network, times) = formed(devices, loss, seed, Config::default());
    within(times, 12.0);
    network.run(secs(30.0));
    network
}

#[test]
fn networks_of_all_small_sizes_form() {
    for devices in 2..=20 {
        let (mut network, times) = formed(devices, 0.05, devices as u64, Config::default());
        within(times, 8.0);
        let names: Vec<_> = network.hosts.iter().map(|host| host.device).collect();
        let known = network.until(0..devices, secs(5.0), |host| {
            let mut others = names.iter().enumerate().filter(|(_, other)| **other != host.device);
            others.all(|(number, other)| host.payload(other) == Some(payload(number, 1).as_slice()))
        });
        assert_eq!(known.len(), devices);
    }
}

#[test]
fn a_device_keeps_few_connections() {
    let network = settled(60, 0.0, 1);
    for host in &network.hosts {
        let neighbours = host.presence.as_ref().unwrap().neighbours().count();
        assert!((2..=6).contains(&neighbours), "{neighbours} neighbours");
    }
}

#[test]
fn all_devices_learn_what_happens() {
    for (seed, loss) in (1..).zip(LOSSES) {
        let mut network = settled(40, loss, seed);
        within(join(&mut network), 4.0);
        network.run(secs(10.0));
        within(change(&mut network), 4.0);
        network.run(secs(10.0));
        let (killed, times) = death(&mut network, Power::Killed);
        within(times, 6.0);
        network.run(secs(10.0));
        within(back(&mut network, killed), 5.0);
        network.run(secs(10.0));
        let (vanished, times) = death(&mut network, Power::Vanished);
        // On a bad connection, a neighbour waits up to 9 s before it gives another one up.
        within(times, if loss < 0.1 { 8.0 } else { 13.0 });
        network.run(secs(10.0));
        within(back(&mut network, vanished), 5.0);
        assert_eq!(network.wrong, 0);
    }
}

#[test]
fn a_return_before_the_death_is_noticed_is_a_new_incarnation() {
    let mut network = settled(20, 0.0, 3);
    let device = network.hosts[7].device;
    let before = network.hosts[0].up[&device];
    network.stop(7, Power::Vanished);
    network.run(secs(0.5));
    network.start(7);
    let others: Vec<usize> = (0..20).filter(|host| *host != 7).collect();
    let known =
        network.until(others, secs(10.0), |host| host.up.get(&device).is_some_and(|new| *new > before));
    assert_eq!(known.len(), 19);
}

#[test]
fn a_clock_that_was_set_back_does_not_hide_a_device() {
    let mut network = settled(20, 0.0, 4);
    let device = network.hosts[7].device;
    let before = network.hosts[0].up[&device];
    network.stop(7, Power::Killed);
    network.run(secs(10.0));
    network.set_back(7, secs(3600.0));
    network.start(7);
    let others: Vec<usize> = (0..20).filter(|host| *host != 7).collect();
    let known = network.until(others, secs(10.0), |host| {
        host.up.get(&device).is_some_and(|new| *new > before) && host.payload(&device) == Some(&payload(7, 2))
    });
    assert_eq!(known.len(), 19, "each device knows the new start and what the device says since");
}

#[test]
fn a_device_that_leaves_is_down_at_once() {
    let mut network = settled(20, 0.0, 5);
    let device = network.hosts[7].device;
    network.leave(7);
    let others: Vec<usize> = (0..20).filter(|host| *host != 7).collect();
    let known = network.until(others, secs(10.0), |host| !host.up.contains_key(&device));
    assert_eq!(known.len(), 19);
    assert!(known[18] < secs(2.0), "it took {:?}", known[18]);
}

#[test]
fn a_removed_device_is_down_and_has_no_connections() {
    let mut network = settled(20, 0.0, 6);
    let device = network.hosts[7].device;
    for host in (0..20).filter(|host| *host != 7) {
        network.remove(host, 7);
    }
    network.run(secs(30.0));
    for host in network.hosts.iter().filter(|host| host.device != device) {
        assert_eq!(host.up.len(), 18);
        assert!(host.presence.as_ref().unwrap().neighbours().all(|neighbour| neighbour != device));
    }
    assert!(network.hosts[7].up.is_empty());
}

#[test]
fn parts_of_a_cut_network_forget_each_other_and_meet_again() {
    // Three devices that lose all neighbours have to find each other among thirty.
    for (seed, part, most) in [(5, 1, 15.0), (6, 3, 60.0), (7, 15, 15.0)] {
        let mut network = settled(30, 0.05, seed);
        within(cut(&mut network, part), most);
        // What changes on one side during the cut is known on the other side afterwards.
        network.say(0, payload(0, 9));
        network.say(29, payload(29, 9));
        network.run(secs(40.0));
        within(heal(&mut network), 12.0);
        let (first, last) = (network.hosts[0].device, network.hosts[29].device);
        let known = network.until(0..30, secs(10.0), |host| {
            let knows = |number: usize, device| {
                host.device == device || host.payload(&device) == Some(&payload(number, 9))
            };
            knows(0, first) && knows(29, last)
        });
        assert_eq!(known.len(), 30);
    }
}

#[test]
fn devices_agree_after_churn() {
    for (seed, loss) in (8..).zip(LOSSES) {
        let mut network = settled(40, loss, seed);
        churn(&mut network, secs(120.0), secs(60.0));
        assert_eq!(all_up(&mut network).len(), 40);
        // Nothing that anybody said is lost.
        network.run(secs(60.0));
        for host in &network.hosts {
            assert_eq!(host.up.len(), 39);
            for other in network.hosts.iter().filter(|other| other.device != host.device) {
                assert!(host.payload(&other.device).is_some());
            }
        }
    }
}

#[test]
fn an_idle_network_is_quiet() {
    let mut network = settled(60, 0.0, 11);
    let rate = idle(&mut network, secs(60.0));
    assert!(rate.bytes < 1500.0, "{} bytes per second", rate.bytes);
    assert_eq!(network.wrong, 0);
}

#[test]
fn the_same_seed_has_the_same_course() {
    let course = |seed| {
        let (mut network, _) = formed(20, 0.2, seed, Config::default());
        churn(&mut network, secs(60.0), secs(60.0));
        (network.course, network.traffic)
    };
    assert_eq!(course(12), course(12));
    assert_ne!(course(12), course(13));
}
