//! Commands of people: uploads, and a device that comes and goes.
//!
//! In: the devices, while their programs die. Out: faults if a command hangs, fails with a code that it must not have, or if
//! something that was acknowledged is not there in the end. Must not know: what is killed when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::device::{Device, Ended, GPMD, GVM, NAMES, Program, STAYING, World};
use crate::dice::Dice;

/// Codes that commands may have while gpmds die.
const EXPECTED: [&str; 13] = [
    "GPMD_NOT_RUNNING",
    // It is stopped.
    "OVERLOADED",
    "DEVICE_DOWN",
    "DEVICE_NOT_FOUND",
    "NODE_DOWN",
    "NODE_NOT_FOUND",
    "NODE_NOT_CONNECTED",
    "MODULE_NOT_FOUND",
    "INVITATION_INVALID",
    "NETWORK_JOINED",
    "CONNECTION_DENIED",
    "NODE_NAME_AMBIGUOUS",
    "TIMEOUT",
];

/// Names of uploaded modules, and versions of each that stay.
const MODULES: u64 = 4;
const VERSIONS: u64 = 3;

/// Runs a command and counts it. `None` if it hangs or fails.
fn command(world: &World, device: &Device, program: &str, args: &[&str]) -> Option<Ended> {
    // The words before the first value.
    let words: Vec<&str> = args.iter().take(2).copied().filter(|word| word.len() < 9).collect();
    let kind = format!("{} {}", if program == GPMD { "gpmd" } else { "gvm" }, words.join(" "));
    let began = Instant::now();
    let ended = device.run(program, args);
    let took = began.elapsed();
    let Some(ended) = ended else {
        world.tally.lock().unwrap().call(&kind, took, "hung");
        world.fault(format!("{kind} on {} hung: {args:?}", device.name));
        return None;
    };
    let outcome = if ended.ok { "ok".to_owned() } else { format!("{} (command)", ended.code()) };
    world.tally.lock().unwrap().call(&kind, took, &outcome);
    if ended.ok {
        return Some(ended);
    }
    // A device that has not joined has nothing to leave.
    let nothing_to_leave = args == ["leave"] && ended.code() == "BAD_ARGUMENTS";
    if !nothing_to_leave && !EXPECTED.contains(&ended.code().as_str()) {
        world.fault(format!("{kind} on {}: {}", device.name, ended.err.trim()));
    }
    None
}

fn numbered(number: u64) -> Vec<u8> {
    wat::parse_str(format!(r#"(module (func (export "number") (result i64) (i64.const {number})))"#)).unwrap()
}

/// Uploads and removes modules on each device in turn. What was acknowledged last is there in the end.
pub fn upload(world: &World) {
    let mut dice = Dice::new();
    // What each device has for certain, by name and version; `None` if it is not known.
    let mut acknowledged: Vec<BTreeMap<String, Option<u64>>> = vec![BTreeMap::new(); STAYING];
    let mut number = 0;
    loop {
        dice.nap(Duration::from_millis(700));
        let Some(_at_work) = world.begin() else { break };
        number += 1;
        let place = dice.below(STAYING as u64) as usize;
        let (device, has) = (&world.devices[place], &mut acknowledged[place]);
        let name = format!("u{}-{}", place, dice.below(MODULES));
        let version = format!("1.{number}.0");
        let file = world.scratch("upload.wasm", &numbered(number));
        let (name_option, version_option) = (format!("--name={name}"), format!("--version={version}"));
        let args = ["wasm", "upload", &name_option, &version_option, &format!("--file={}", file.display())];
        let stored = command(world, device, GPMD, &args).is_some();
        has.insert(format!("{name}@{version}"), stored.then_some(number));
        if stored && dice.below(3) == 0 {
            let run = command(world, device, GVM, &["run", &format!("{name}@{version}.number()")]);
            if let Some(ended) = run
                && String::from_utf8_lossy(&ended.out).trim() != number.to_string()
            {
                world.fault(format!(
                    "{name}@{version} is not {number}: {:?}",
                    String::from_utf8_lossy(&ended.out)
                ));
            }
        }
        let mut of_name: Vec<String> =
            has.keys().filter(|key| key.starts_with(&format!("{name}@"))).cloned().collect();
        of_name.sort_by_key(|key| std::cmp::Reverse(minor(key)));
        // Some removals fail, so there may be several to remove.
        for oldest in of_name.split_off(of_name.len().min(VERSIONS as usize)) {
            let version = oldest.split('@').nth(1).unwrap();
            let args = ["wasm", "remove", &name, "--version", version];
            let there = device.run(GPMD, &["wasm", "get", &name, "--version", version, "--out", "-"]);
            let is_gone = there.is_some_and(|there| there.code() == "MODULE_NOT_FOUND");
            if is_gone && has[&oldest].is_some() {
                world.fault(format!("{oldest} was stored on {}, and is not there", device.name));
            }
            match is_gone || command(world, device, GPMD, &args).is_some() {
                true => drop(has.remove(&oldest)),
                false => drop(has.insert(oldest, None)),
            }
        }
    }
    for (place, has) in acknowledged.iter().enumerate() {
        for (key, number) in has {
            let (Some(number), (name, version)) = (number, key.split_once('@').unwrap()) else { continue };
            let got =
                world.devices[place].run(GPMD, &["wasm", "get", name, "--version", version, "--out", "-"]);
            let whole = got.is_some_and(|got| got.ok && got.out == numbered(*number));
            if !whole {
                world.fault(format!("{key} was stored on {}, and is not there", NAMES[place]));
            }
        }
    }
}

fn minor(key: &str) -> u64 {
    key.rsplit('@').next().unwrap().split('.').nth(1).unwrap().parse().unwrap()
}

/// A device that joins the network of the others, calls one of their nodes, and leaves or is removed, again and again.
pub fn come_and_go(world: &World) {
    let mut dice = Dice::new();
    let device = &world.devices[STAYING];
    let name = device.name;
    let mut gpmd =
        Program { device: STAYING, node: None, spared: false, child: None, started: Instant::now() };
    loop {
        dice.nap(Duration::from_secs(2));
        let Some(_at_work) = world.begin() else { break };
        let child = gpmd.child.as_mut().map(|child| child.try_wait().unwrap().is_none());
        if child != Some(true) {
            gpmd.kill();
            world.start_program(&mut gpmd);
            std::thread::sleep(Duration::from_millis(500));
        }
        let host = &world.devices[dice.below(STAYING as u64) as usize];
        let Some(made) = command(world, host, GPMD, &["invite", "--json"]) else { continue };
        let made: Json = serde_json::from_slice(&made.out).unwrap();
        let line = made["line"].as_str().unwrap();
        if dice.below(8) == 0 {
            // An invitation that nobody takes.
            let id = made["id"].as_str().unwrap_or_default();
            command(world, host, GPMD, &["invitations", "revoke", id]);
            continue;
        }
        let joined = command(world, device, GPMD, &["join", line]);
        if let Some(joined) = &joined {
            let said = String::from_utf8_lossy(&joined.out).into_owned();
            world.event("a device joined");
            if device.members().is_some_and(|members| members.len() < 2) {
                world.fault(format!("{name} joined, it says, and is alone: {said}"));
            }
            let node = *dice.one_of(&["study@laptop", "attic@pi", "attic@tv"]);
            let (connect, call) =
                (format!("Node.connect({node})"), format!("Node.run({node}, soak.add(40, 2))"));
            let said = command(world, device, GVM, &["eval", &connect, &call]);
            if let Some(said) = said
                && String::from_utf8_lossy(&said.out).lines().last() != Some("42")
            {
                world.fault(format!("{name} got {:?}", String::from_utf8_lossy(&said.out)));
            }
        }
        if dice.below(4) == 0 {
            gpmd.kill();
            world.start_program(&mut gpmd);
            world.event("kill -9 of the device that comes and goes");
            std::thread::sleep(Duration::from_millis(300));
            if joined.is_some() && device.members().is_some_and(|members| members.len() < 2) {
                world.fault(format!("{name} had joined, and is alone after a kill"));
            }
        }
        // Its name has a number if an earlier life of it is still a member somewhere.
        let own = device.own_name();
        if let (Some(own), 0) = (own, dice.below(2))
            && command(world, host, GPMD, &["remove", &own]).is_some()
        {
            world.event("a device was removed");
            if host.members().is_some_and(|members| members.contains(&own)) {
                world.fault(format!("{} removed {own}, and still has it", host.name));
            }
        }
        command(world, device, GPMD, &["leave"]);
    }
    // With everything connected, all devices have the same members.
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let members: Vec<_> = world.devices[..STAYING].iter().map(Device::members).collect();
        if members.iter().all(|of_one| of_one.is_some() && *of_one == members[0]) {
            break;
        }
        if Instant::now() > end {
            return world.fault(format!("the devices do not agree on their members: {members:?}"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
