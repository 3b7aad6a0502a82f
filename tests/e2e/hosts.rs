//! Several devices: each is a network namespace with a home and a daemon of its own, on one switch.
//!
//! In: real cables, addresses and firewalls. Out: what a person does with several devices works, and goes on working when cables
//! are cut, addresses change, and devices are killed or removed. Needs root, `ip` and `nft`. Must not know: how devices prove who
//! they are.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::bed::{Bed, GPMD, GVM, Node};
use crate::guests;
use crate::process::{Ended, Running, wait_for, wait_until};

/// From nothing to the first result of another device. The product promises this.
const FIRST_RESULT: Duration = Duration::from_secs(10);

/// The time within which a device that was removed is refused everywhere, after the others know.
const REFUSED: Duration = Duration::from_secs(2);

/// The times within which a dead device is noticed, and one that is back.
const DEAD: Duration = Duration::from_secs(5);
const BACK: Duration = Duration::from_secs(2);

/// What a busy test machine may take in addition.
const SLACK: Duration = Duration::from_secs(3);

#[track_caller]
fn must(command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let ended = Running::start(Command::new(words[0]).args(&words[1..])).finish();
    assert_eq!(ended.status, Some(0), "{command}: {}", ended.err());
}

/// Namespaces that are connected by a switch. Dropping it deletes them.
struct Switch {
    name: String,
    hosts: Vec<String>,
}

impl Switch {
    fn new(hosts: usize) -> Switch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let name = format!("gvm-{id}-switch");
        let hosts: Vec<String> = (1..=hosts).map(|host| format!("gvm-{id}-{host}")).collect();
        let switch = Switch { name, hosts };
        let name = &switch.name;
        must(&format!("ip netns add {name}"));
        must(&format!("ip -n {name} link add switch type bridge"));
        must(&format!("ip -n {name} link set switch up"));
        for (place, host) in switch.hosts.iter().enumerate() {
            let place = place + 1;
            must(&format!("ip netns add {host}"));
            must(&format!("ip -n {name} link add port{place} type veth peer name cable netns {host}"));
            must(&format!("ip -n {name} link set port{place} master switch up"));
            must(&format!("ip -n {host} addr add 10.78.0.{place}/24 dev cable"));
            must(&format!("ip -n {host} link set cable up"));
            must(&format!("ip -n {host} link set lo up"));
        }
        switch
    }

    /// Pulls the cable of a host out, or puts it back.
    fn plug(&self, host: usize, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        must(&format!("ip -n {} link set port{} {state}", self.name, host + 1));
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&self.name]) {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A device: a home in a namespace.
struct Host {
    bed: Bed,
    namespace: String,
    name: &'static str,
    gpmd: Option<Running>,
}

impl Host {
    fn new(namespace: &str, name: &'static str) -> Host {
        Host { bed: Bed::bare(), namespace: namespace.to_owned(), name, gpmd: None }
    }

    /// Returns a command that runs on this device, with the ports that a person would have.
    fn command(&self, program: &str) -> Command {
        let mut command = self.bed.command("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command.env_remove("GPMD_PORT").env_remove("GPMD_COMMAND_PORT").env_remove("GPMD_MDNS");
        command
    }

    fn start(&mut self) {
        let mut command = self.command(GPMD);
        command.args(["start", "--foreground", "--device", self.name]);
        self.gpmd = Some(Running::start(&mut command));
        wait_until("gpmd answers", || self.gpmd(&["status"]).status == Some(0));
    }

    fn gpmd(&self, args: &[&str]) -> Ended {
        Running::start(self.command(GPMD).args(args)).finish()
    }

    fn eval(&self, statements: &[&str]) -> Ended {
        Running::start(self.command(GVM).arg("eval").args(statements)).finish()
    }

    fn node(&self, name: &str, options: &[&str]) -> Node {
        let mut command = self.command(GVM);
        command.args(["--name", name]).args(options);
        Node::start(&mut command, name)
    }

    fn upload(&self, name: &str, file: &std::path::Path) {
        let (name, file) = (format!("--name={name}"), format!("--file={}", file.display()));
        self.gpmd(&["wasm", "upload", &name, "--version=1.0.0", &file]).ok();
    }

    fn invite(&self, options: &[&str]) -> String {
        let made = self.gpmd(&[&["invite", "--json"], options].concat());
        let made: Json = serde_json::from_str(&made.ok()).unwrap();
        made["line"].as_str().unwrap().to_owned()
    }

    fn devices(&self) -> Vec<Json> {
        let ended = self.gpmd(&["devices", "--json"]);
        let status: Json = serde_json::from_str(&ended.ok()).unwrap();
        status["devices"].as_array().unwrap().clone()
    }

    /// Returns the other devices that are up, sorted.
    fn up(&self) -> Vec<String> {
        let up = |device: &&Json| device["up"] == true && device["own"] == false;
        let devices = self.devices();
        devices.iter().filter(up).map(|device| device["name"].as_str().unwrap().to_owned()).collect()
    }

    fn discover(&self) -> String {
        let nodes = self.eval(&["Node.discover()"]).ok();
        // The node that asks is in the answer too.
        let others = nodes.trim().split(',').filter(|name| !name.starts_with("node-") || name.contains('@'));
        others.collect::<Vec<_>>().join(",")
    }

    fn kill(&mut self) {
        let gpmd = self.gpmd.take().unwrap();
        gpmd.signal(rustix::process::Signal::KILL);
        gpmd.end();
    }
}

fn is_root() -> bool {
    let root = rustix::process::getuid().is_root();
    if !root {
        eprintln!("not run: network namespaces need root");
    }
    root
}

/// Devices in one network, which the first one founded.
struct Devices {
    // Declared before the switch: the daemons end first.
    hosts: Vec<Host>,
    switch: Switch,
}

impl Devices {
    fn new(names: &[&'static str]) -> Devices {
        let switch = Switch::new(names.len());
        let mut hosts: Vec<Host> =
            names.iter().zip(&switch.hosts).map(|(name, namespace)| Host::new(namespace, name)).collect();
        hosts.iter_mut().for_each(Host::start);
        for (place, host) in hosts.iter().enumerate().skip(1) {
            let line = hosts[0].invite(&[]);
            let said = host.gpmd(&["join", &line]).ok();
            let expected =
                format!("Joined the network of {} as {} ({} devices).\n", names[0], names[place], place + 1);
            assert_eq!(said, expected);
        }
        let devices = Devices { hosts, switch };
        devices.wait_for_all();
        devices
    }

    fn wait_for_all(&self) {
        for host in &self.hosts {
            wait_until("every device sees all others", || host.up().len() == self.hosts.len() - 1);
        }
    }
}

/// Plays what the README shows in its section about a second device, but for what differs each time.
#[test]
fn the_second_device_of_the_readme() {
    if !is_root() {
        return;
    }
    let text = std::fs::read_to_string(guests::repository().join("README.md")).unwrap();
    let section = text.split("## A second device").nth(1).unwrap();
    let shown: Vec<&str> =
        section.split("```text\n").nth(1).unwrap().split("```").next().unwrap().lines().collect();
    let switch = Switch::new(2);
    let (mut laptop, mut pi) = (Host::new(&switch.hosts[0], "laptop"), Host::new(&switch.hosts[1], "pi"));
    laptop.start();
    pi.start();
    laptop.upload("math", &guests::math());
    let _node = laptop.node("node-5488", &[]);
    let invited = laptop.gpmd(&["invite"]).ok();
    let mut said = vec!["laptop$ gpmd invite".to_owned()];
    said.extend(invited.lines().map(|line| match line.split_once("gvm-join:") {
        Some((before, _)) => format!("{before}gvm-join:…"),
        None => line.to_owned(),
    }));
    let line = invited.split_whitespace().find(|word| word.starts_with("gvm-join:")).unwrap();
    said.push("pi$ gpmd join gvm-join:…".to_owned());
    said.extend(pi.gpmd(&["join", line]).ok().lines().map(str::to_owned));
    said.push("pi$ gvm".to_owned());
    let mut node = pi.node("node-8399", &[]);
    wait_until("the node is found", || node.ask("Node.discover()") == "node-5488@laptop,node-8399");
    for statement in
        ["Node.discover()", "Node.connect(node-5488@laptop)", "Node.run(node-5488@laptop, math.add(1,2))"]
    {
        said.push(format!("(node-8399) > {statement}"));
        let mut answer = node.ask(statement);
        // The id differs, and what the module prints comes before the result.
        if let Some(id) = answer.strip_prefix("ID:  ") {
            let documented = shown.iter().find(|line| line.starts_with("ID:  ")).unwrap();
            assert_eq!(id.len() + 5, documented.len());
            said.extend([(*documented).to_owned(), node.rest()]);
            answer = node.rest();
        }
        said.push(answer);
    }
    assert_eq!(said, shown);
}

#[test]
fn from_nothing_to_a_remote_result() {
    if !is_root() {
        return;
    }
    let switch = Switch::new(2);
    let (mut laptop, pi) = (Host::new(&switch.hosts[0], "laptop"), Host::new(&switch.hosts[1], "pi"));
    laptop.start();
    laptop.upload("math", &guests::math());
    let _node = laptop.node("node-5488", &[]);
    let begun = Instant::now();
    let said = laptop.gpmd(&["invite"]).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "Devices on this network can now reach this one on port 5989 (all interfaces).");
    assert_eq!(lines[1], "On the other device, within 10 minutes, run:");
    let line = lines[2].strip_prefix("  gpmd join ").unwrap();
    // gpmd does not run there yet, and takes the name of the host.
    let joined = pi.gpmd(&["join", line]).ok();
    assert!(joined.lines().last().unwrap().starts_with("Joined the network of laptop as "), "{joined}");
    let result =
        pi.eval(&["Node.connect(node-5488@laptop)", "Node.run(node-5488@laptop, math.add(1,2))"]).ok();
    let took = begun.elapsed();
    assert_eq!(result.lines().last(), Some("3"), "{result}");
    assert!(took < FIRST_RESULT, "{took:?}");
    eprintln!("from the invitation to the first result: {took:?}");
    // The invitation was good once.
    let again = Host::new(&switch.hosts[1], "other");
    again.gpmd(&["start", "--port", "0", "--command-port", "0"]).ok();
    let refused = again.gpmd(&["join", line]).fails("INVITATION_INVALID");
    assert!(!refused.contains("laptop"), "a stranger learns nothing: {refused}");
    again.gpmd(&["kill"]).ok();
    pi.gpmd(&["kill"]).ok();
}

#[test]
fn five_devices_work_together() {
    if !is_root() {
        return;
    }
    let devices = Devices::new(&["laptop", "pi", "tv", "desk", "shed"]);
    let hosts = &devices.hosts;
    hosts[0].upload("math", &guests::math());
    hosts[0].upload("values", &guests::values());
    hosts[0].upload("counter", &guests::wat("counter"));
    let mut nodes: Vec<Node> =
        hosts.iter().map(|host| host.node(&format!("on-{}", host.name), &[])).collect();
    let all = "on-desk,on-laptop@laptop,on-pi@pi,on-shed@shed,on-tv@tv";
    wait_until("every node is found", || hosts[3].discover() == all);
    // Every device calls every other one. Only the laptop has the module.
    for host in hosts {
        for other in hosts.iter().filter(|other| other.name != host.name) {
            let node = format!("on-{}@{}", other.name, other.name);
            let said = host
                .eval(&[&format!("Node.connect({node})"), &format!("Node.run({node}, math.add(20, 22))")]);
            assert_eq!(said.ok().lines().last(), Some("42"), "{} calls {node}", host.name);
        }
    }
    // A live instance, a large value, the name alone, and the name of the own device.
    let pi = &mut nodes[1];
    assert_eq!(pi.ask("Node.connect(on-tv)"), "on-tv@tv");
    let spawned = pi.ask("Node.spawn(on-tv@tv, counter)");
    assert_eq!(spawned, "i1");
    let one = hosts[1].eval(&["Node.run(on-pi@pi, math.add(1, 1))"]).fails("NODE_NOT_CONNECTED");
    assert!(one.contains("on-pi"), "{one}");
    // Commands for another device.
    let status: Json =
        serde_json::from_str(&hosts[4].gpmd(&["--on", "laptop", "status", "--json"]).ok()).unwrap();
    assert_eq!(status["nodes"][0]["name"], "on-laptop");
    let listed = hosts[4].gpmd(&["--on", "laptop", "wasm", "list"]).ok();
    assert!(listed.contains("math") && listed.contains("values"), "{listed}");
    let file = format!("--file={}", guests::wat("hello").display());
    hosts[4].gpmd(&["--on", "tv", "wasm", "upload", "--name=hello", "--version=1.0.0", &file]).ok();
    assert!(hosts[2].gpmd(&["wasm", "list"]).ok().contains("hello"));
}

#[test]
fn a_module_travels_once_and_stays() {
    if !is_root() {
        return;
    }
    let mut devices = Devices::new(&["laptop", "pi"]);
    devices.hosts[0].upload("math", &guests::math());
    let call = ["Node.connect(attic@pi)", "Node.run(attic@pi, math.add(2, 3))"];
    let attic = devices.hosts[1].node("attic", &[]);
    wait_until("the node is found", || devices.hosts[0].discover() == "attic@pi");
    assert_eq!(devices.hosts[0].eval(&call).ok().lines().last(), Some("5"));
    assert_eq!(devices.hosts[1].eval(&["math.add(2, 4)"]).ok().lines().last(), Some("6"));
    // A node that runs only its own modules refuses it.
    let own = devices.hosts[1].node("own", &["--modules", "own"]);
    wait_until("the node is found", || devices.hosts[0].discover() == "attic@pi,own@pi");
    let refused = devices.hosts[0].eval(&["Node.connect(own@pi)", "Node.run(own@pi, math.add(2, 3))"]);
    refused.fails("NOT_PERMITTED");
    drop(own);
    // The laptop is away. The name and the bytes are still known here, also after gpmd starts again.
    devices.hosts[0].kill();
    devices.hosts[1].kill();
    devices.hosts[1].start();
    wait_until("the laptop is away", || devices.hosts[1].up().is_empty());
    assert_eq!(devices.hosts[1].eval(&["math.add(3, 4)"]).ok().lines().last(), Some("7"));
    // Damaged bytes are not run; they are fetched again when the laptop is back.
    let fetched = devices.hosts[1].bed.home().join("fetched");
    let modules = |path: &std::path::Path| path.extension().is_some_and(|extension| extension == "wasm");
    let file =
        std::fs::read_dir(&fetched).unwrap().flatten().map(|entry| entry.path()).find(|path| modules(path));
    let file = file.unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    std::fs::remove_dir_all(devices.hosts[1].bed.home().join("compiled")).unwrap();
    devices.hosts[1].eval(&["math.add(3, 5)"]).fails("MODULE_NOT_FOUND");
    devices.hosts[0].start();
    wait_until("the laptop is back", || devices.hosts[1].up() == ["laptop"]);
    wait_until("the index is read", || devices.hosts[1].eval(&["math.add(3, 5)"]).status == Some(0));
    drop(attic);
}

#[test]
fn a_removed_device_is_refused_everywhere() {
    if !is_root() {
        return;
    }
    let devices = Devices::new(&["laptop", "pi", "tv"]);
    let [laptop, pi, tv] = [&devices.hosts[0], &devices.hosts[1], &devices.hosts[2]];
    laptop.upload("spin", &guests::wat("spin"));
    let study = laptop.node("study", &[]);
    wait_until("the node is found", || tv.discover() == "study@laptop");
    let mut running = tv.node("runs", &[]);
    assert_eq!(running.ask("Node.connect(study@laptop)"), "study@laptop");
    running.tell("Node.run(study@laptop, spin.spin())");
    wait_until("the call runs", || running.running.out().contains("ID:  "));
    std::thread::sleep(Duration::from_millis(300));
    // The pi removes the tv. The laptop learns it from the pi.
    pi.gpmd(&["remove", "tv"]).ok();
    let begun = Instant::now();
    wait_until("the call ends", || !running.running.err().is_empty());
    assert!(begun.elapsed() < REFUSED + SLACK, "{:?}", begun.elapsed());
    let said = running.running.err();
    assert!(said.contains("revoked") || said.contains("NODE_DOWN"), "{said}");
    wait_until("the laptop knows it", || laptop.up() == ["pi"]);
    assert_eq!(laptop.discover(), "study");
    // A script ends with its first error.
    wait_until("the tv is alone", || tv.up().is_empty() && tv.discover().is_empty());
    let told = tv.gpmd(&["devices"]).ok();
    assert!(told.starts_with("This device was removed from its network.\n"), "{told}");
    assert_eq!(tv.eval(&["Node.connect(study@laptop)"]).status, Some(1));
    // It leaves its old network, and is invited again.
    tv.gpmd(&["leave"]).ok();
    let line = laptop.invite(&["--name", "tv-2"]);
    let joined = tv.gpmd(&["join", &line]).ok();
    assert_eq!(joined, "Joined the network of laptop as tv-2 (3 devices).\n");
    wait_until("it is found again", || tv.discover() == "study@laptop");
    let met = tv.eval(&["Node.connect(study@laptop)", "Node.list()"]).ok();
    assert_eq!(met, "study@laptop\nstudy@laptop\n");
    drop(study);
}

#[test]
fn cables_addresses_and_deaths() {
    if !is_root() {
        return;
    }
    let mut devices = Devices::new(&["laptop", "pi", "tv"]);
    devices.hosts[0].upload("math", &guests::math());
    let study = devices.hosts[0].node("study", &[]);
    let mut attic = devices.hosts[1].node("attic", &[]);
    wait_until("the node is found", || devices.hosts[1].discover() == "attic,study@laptop");
    assert_eq!(attic.ask("Node.connect(study@laptop)"), "study@laptop");
    // A cable is pulled out: both sides notice it, and meet again when it is back.
    let cut = Instant::now();
    devices.switch.plug(0, false);
    wait_until("the pi notices", || devices.hosts[1].up() == ["tv"]);
    let noticed = cut.elapsed();
    wait_until("the laptop notices", || devices.hosts[0].up().is_empty());
    assert!(noticed < DEAD + SLACK, "{noticed:?}");
    assert_eq!(devices.hosts[1].discover(), "attic");
    devices.hosts[1].eval(&["Node.connect(study@laptop)"]).fails("DEVICE_DOWN");
    let mended = Instant::now();
    devices.switch.plug(0, true);
    wait_until("the devices meet again", || devices.hosts[1].up() == ["laptop", "tv"]);
    let back = mended.elapsed();
    assert!(back < BACK + SLACK, "{back:?}");
    eprintln!("a cut cable is noticed after {noticed:?}, a mended one after {back:?}");
    wait_for("the node is connected again", || {
        let said =
            devices.hosts[1].eval(&["Node.connect(study@laptop)", "Node.run(study@laptop, math.add(1, 1))"]);
        (said.status == Some(0)).then_some(())
    });
    // The laptop gets another address.
    let namespace = devices.hosts[0].namespace.clone();
    must(&format!("ip -n {namespace} addr del 10.78.0.1/24 dev cable"));
    must(&format!("ip -n {namespace} addr add 10.78.0.101/24 dev cable"));
    let address = |host: &Host| {
        let devices = host.devices();
        let laptop = devices.iter().find(|device| device["name"] == "laptop").cloned().unwrap();
        laptop["up"] == true && laptop["address"].as_str().unwrap_or_default().contains("10.78.0.101")
    };
    wait_until("the new address is used", || address(&devices.hosts[1]) && address(&devices.hosts[2]));
    wait_for("calls work again", || {
        let said =
            devices.hosts[2].eval(&["Node.connect(study@laptop)", "Node.run(study@laptop, math.add(1, 2))"]);
        (said.status == Some(0)).then_some(())
    });
    // Two devices get other addresses while they are parted, and nobody can tell them: they find each other by multicast.
    devices.hosts[2].kill();
    devices.switch.plug(1, false);
    wait_until("the devices are parted", || devices.hosts[0].up().is_empty());
    for (place, before, after) in [(0, "10.78.0.101", "10.78.0.201"), (1, "10.78.0.2", "10.78.0.202")] {
        let namespace = &devices.hosts[place].namespace;
        must(&format!("ip -n {namespace} addr del {before}/24 dev cable"));
        must(&format!("ip -n {namespace} addr add {after}/24 dev cable"));
    }
    devices.switch.plug(1, true);
    wait_until("they find each other", || devices.hosts[1].up() == ["laptop"]);
    devices.hosts[2].start();
    wait_until("all find each other", || devices.hosts[2].up() == ["laptop", "pi"]);
    // A daemon is killed and starts again: its node registers again, and the other devices find it.
    devices.hosts[0].kill();
    wait_until("the others notice", || devices.hosts[1].up() == ["tv"] && devices.hosts[2].up() == ["pi"]);
    devices.hosts[0].start();
    wait_until("the node is found again", || devices.hosts[1].discover() == "attic,study@laptop");
    drop(study);
}

#[test]
fn devices_admit_others_while_they_are_parted() {
    if !is_root() {
        return;
    }
    let switch = Switch::new(4);
    let names = ["laptop", "pi", "tv", "desk"];
    let mut hosts: Vec<Host> =
        names.iter().zip(&switch.hosts).map(|(name, at)| Host::new(at, name)).collect();
    hosts.iter_mut().for_each(Host::start);
    let line = hosts[0].invite(&[]);
    hosts[1].gpmd(&["join", &line]).ok();
    wait_until("the two are connected", || hosts[0].up() == ["pi"] && hosts[1].up() == ["laptop"]);
    // A firewall between the two: each admits another device with the same name.
    let nft = format!("ip netns exec {} nft", hosts[0].namespace);
    must(&format!("{nft} add table inet cut"));
    must(&format!(
        "{nft} add chain inet cut input {{ type filter hook input priority 0 ; policy accept ; }}"
    ));
    must(&format!("{nft} add rule inet cut input ip saddr 10.78.0.2 drop"));
    wait_until("the two are parted", || hosts[0].up().is_empty() && hosts[1].up().is_empty());
    let line = hosts[0].invite(&["--name", "guest-room"]);
    hosts[2].gpmd(&["join", &line]).ok();
    let line = hosts[1].invite(&["--name", "guest-room"]);
    hosts[3].gpmd(&["join", &line]).ok();
    must(&format!("{nft} delete table inet cut"));
    for host in &hosts {
        wait_until("all four are connected", || host.up().len() == 3);
        let names: Vec<String> =
            host.devices().iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, ["guest-room", "guest-room-2", "laptop", "pi"]);
    }
}
