//! What is measured in a simulated network: how long news take to reach all devices, and what that costs.
//!
//! In: the number of devices, a rate of loss, a seed. Out: durations, bytes. Must not know: how a network is simulated, how
//! figures are printed.

use std::time::Duration;

use gvm_gossip::Config;

use crate::network::{Network, Power, Traffic, payload};

/// Nothing that is measured takes this long.
const MOST: Duration = Duration::from_secs(180);

/// The figures of one network.
pub struct Figures {
    pub devices: usize,
    pub loss: f64,
    pub rows: Vec<(&'static str, Times)>,
    pub idle: Rate,
    pub churn: Rate,
    /// Until all devices agree after the churn has ended.
    pub calm: Option<Duration>,
    /// Reports of death of devices that were up, while nothing happened and under churn.
    pub wrong: u64,
    /// Per device, in bytes.
    pub memory: usize,
    /// What a new device costs the network.
    pub join_bytes: u64,
}

/// When half of the devices and all of them knew; nothing if not all did.
pub struct Times {
    pub half: Option<Duration>,
    pub all: Option<Duration>,
}

/// Per device and second.
pub struct Rate {
    pub messages: f64,
    pub bytes: f64,
    pub connections: f64,
}

fn times(hosts: usize, times: &[Duration]) -> Times {
    let complete = times.len() == hosts;
    Times {
        half: complete.then(|| times.get(hosts / 2).copied()).flatten(),
        all: complete.then(|| times.last().copied()).flatten(),
    }
}

/// Creates a network, starts its devices within some seconds, and waits until each knows all.
pub fn formed(devices: usize, loss: f64, seed: u64, config: Config) -> (Network, Times) {
    let mut network = Network::new(devices, loss, seed, config);
    for host in 0..devices {
        network.start(host);
        network.run(Duration::from_secs(2) / devices as u32);
    }
    let times = times(devices, &all_up(&mut network));
    (network, times)
}

/// Waits until each device that is up reports all others that are. Returns when each did.
pub fn all_up(network: &mut Network) -> Vec<Duration> {
    let alive = network.alive();
    let others = alive.len() - 1;
    network.until(alive, MOST, move |host| host.up.len() == others)
}

/// A new device is admitted and starts.
pub fn join(network: &mut Network) -> Times {
    let sponsor = network.any();
    let mut members = network.hosts[sponsor].members.clone();
    members.insert(network.hosts.len());
    let host = network.add(members);
    network.admit(sponsor, host);
    network.join(host, vec![sponsor]);
    let device = network.hosts[host].device;
    let others: Vec<usize> = network.alive().into_iter().filter(|other| *other != host).collect();
    times(others.len(), &network.until(others.clone(), MOST, move |other| other.up.contains_key(&device)))
}

/// A device has another list of nodes.
pub fn change(network: &mut Network) -> Times {
    let host = network.any();
    let device = network.hosts[host].device;
    let said = payload(host, 77);
    network.say(host, said.clone());
    let others: Vec<usize> = network.alive().into_iter().filter(|other| *other != host).collect();
    let known = network.until(others.clone(), MOST, move |other| other.payload(&device) == Some(&said));
    times(others.len(), &known)
}

/// A device dies in this way. Returns which.
pub fn death(network: &mut Network, power: Power) -> (usize, Times) {
    let host = network.any();
    let device = network.hosts[host].device;
    network.stop(host, power);
    let others = network.alive();
    let known = network.until(others.clone(), MOST, move |other| !other.up.contains_key(&device));
    (host, times(others.len(), &known))
}

/// A device starts again.
pub fn back(network: &mut Network, host: usize) -> Times {
    let device = network.hosts[host].device;
    network.start(host);
    let others: Vec<usize> = network.alive().into_iter().filter(|other| *other != host).collect();
    let known = network.until(others.clone(), MOST, move |other| other.up.contains_key(&device));
    times(others.len(), &known)
}

/// The network falls into two parts: the first `part` devices and the rest. Waits until each device has noticed.
pub fn cut(network: &mut Network, part: usize) -> Times {
    network.cut(|host| u8::from(host < part));
    let alive = network.alive();
    let first = alive.iter().filter(|host| **host < part).count();
    let rest = alive.len() - first;
    let mut own: Vec<_> =
        alive.iter().filter(|host| **host < part).map(|host| network.hosts[*host].device).collect();
    own.sort();
    let known = network.until(alive.clone(), MOST, move |host| {
        let mine = if own.binary_search(&host.device).is_ok() { first } else { rest };
        host.up.len() == mine - 1
    });
    times(alive.len(), &known)
}

/// The parts reach each other again.
pub fn heal(network: &mut Network) -> Times {
    network.cut(|_| 0);
    let hosts = network.alive().len();
    times(hosts, &all_up(network))
}

fn rate(network: &Network, before: Traffic, devices: usize, time: Duration) -> Rate {
    let per = devices as f64 * time.as_secs_f64();
    let Traffic { messages, bytes, connections } = network.traffic;
    Rate {
        messages: (messages - before.messages) as f64 / per,
        bytes: (bytes - before.bytes) as f64 / per,
        connections: (connections - before.connections) as f64 / per,
    }
}

/// Nothing happens.
pub fn idle(network: &mut Network, time: Duration) -> Rate {
    let before = network.traffic;
    network.run(time);
    rate(network, before, network.alive().len(), time)
}

/// Devices die and start again: each is up for `life` on average, then down for 10 to 30 seconds.
pub fn churn(network: &mut Network, time: Duration, life: Duration) -> Rate {
    let (before, devices) = (network.traffic, network.alive().len());
    let mut down: Vec<(Duration, usize)> = Vec::new();
    let end = network.now + time;
    while network.now < end {
        for host in network.alive() {
            if network.chance(1.0 / life.as_secs_f64()) {
                let power = if network.chance(0.5) { Power::Killed } else { Power::Vanished };
                network.stop(host, power);
                let pause = if network.chance(0.5) { 10 } else { 30 };
                down.push((network.now + Duration::from_secs(pause), host));
            }
        }
        network.run(Duration::from_secs(1));
        let back: Vec<_> = down.extract_if(.., |(at, _)| *at <= network.now).collect();
        back.into_iter().for_each(|(_, host)| network.start(host));
    }
    let rate = rate(network, before, devices, time);
    down.into_iter().for_each(|(_, host)| network.start(host));
    rate
}

/// Measures all of it. `used` returns the bytes that the process uses; `progress` is told what comes next.
pub fn figures(devices: usize, loss: f64, seed: u64, used: fn() -> usize, progress: fn(&str)) -> Figures {
    let before = used();
    progress("the network forms");
    let (mut network, form) = formed(devices, loss, seed, Config::default());
    let network = &mut network;
    // Until the neighbours have settled.
    network.run(Duration::from_secs(60));
    let wrong = network.wrong;
    let idle = idle(network, Duration::from_secs(60));
    // With what the simulation itself needs, which is little.
    let memory = used().saturating_sub(before) / devices;
    progress("the news");
    let rest = Duration::from_secs(15);
    let per = |rate: &Rate, network: &Network| rate.bytes * network.alive().len() as f64;

    let mut rows = vec![("all start within 2 s", form)];
    let before = (network.traffic.bytes, network.now);
    rows.push(("a new device", join(network)));
    network.run(rest);
    let extra = |network: &Network, before: (u64, Duration)| {
        let usual = per(&idle, network) * (network.now - before.1).as_secs_f64();
        (network.traffic.bytes - before.0).saturating_sub(usual as u64)
    };
    let join_bytes = extra(network, before);
    rows.push(("a change of nodes", change(network)));
    network.run(rest);
    let (killed, times) = death(network, Power::Killed);
    rows.push(("a death: process killed", times));
    network.run(rest);
    rows.push(("its return", back(network, killed)));
    network.run(rest);
    let (vanished, times) = death(network, Power::Vanished);
    rows.push(("a death: host vanished", times));
    network.run(rest);
    rows.push(("its return", back(network, vanished)));
    network.run(rest);
    let wrong = network.wrong - wrong;
    progress("the cut");
    rows.push(("a cut into halves", cut(network, devices / 2)));
    network.run(rest);
    rows.push(("it heals", heal(network)));
    network.run(rest);
    progress("the churn");
    let before = network.wrong;
    let churn = churn(network, Duration::from_secs(60), Duration::from_secs(1000));
    let calm = all_up(network);
    let wrong = wrong + network.wrong - before;
    let calm = (calm.len() == network.alive().len()).then(|| calm.last().copied()).flatten();
    Figures { devices, loss, rows, idle, churn, calm, wrong, memory, join_bytes }
}
