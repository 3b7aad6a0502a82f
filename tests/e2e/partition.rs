//! Two nodes in separate network namespaces, with a firewall that cuts the network between them.
//!
//! In: a rule that drops every packet and is removed later. Out: both sides notice within seconds, every call
//! ends, and the nodes reconnect after the rule is removed. Needs root, `ip` and `nft`. Must not know:
//! heartbeats.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::bed::{Bed, GPMD, GVM};
use crate::process::{Running, wait_until};
use crate::terminal::Terminal;

/// The time within which both sides notice the cut. The product promises this.
const KNOWN: Duration = Duration::from_secs(10);

const HERE: &str = "10.77.0.1";
const THERE: &str = "10.77.0.2";

/// Runs a command that must succeed.
#[track_caller]
fn must(command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let ended = Running::start(Command::new(words[0]).args(&words[1..])).finish();
    assert_eq!(ended.status, Some(0), "{command}: {}", ended.err());
}

/// Two network namespaces with a virtual cable between them. Dropping it deletes the namespaces.
struct Cable {
    here: String,
    there: String,
}

impl Cable {
    fn new() -> Cable {
        let id = std::process::id();
        let cable = Cable { here: format!("gvm-{id}-here"), there: format!("gvm-{id}-there") };
        let Cable { here, there } = &cable;
        must(&format!("ip netns add {here}"));
        must(&format!("ip netns add {there}"));
        must(&format!("ip -n {here} link add cable type veth peer name cable netns {there}"));
        for (name, address) in [(here, HERE), (there, THERE)] {
            must(&format!("ip -n {name} addr add {address}/24 dev cable"));
            must(&format!("ip -n {name} link set cable up"));
            must(&format!("ip -n {name} link set lo up"));
        }
        cable
    }

    fn cut(&self) {
        let nft = format!("ip netns exec {} nft", self.here);
        must(&format!("{nft} add table inet cut"));
        for hook in ["input", "output"] {
            must(&format!(
                "{nft} add chain inet cut {hook} {{ type filter hook {hook} priority 0 ; policy accept ; }}"
            ));
        }
        must(&format!("{nft} add rule inet cut input iifname cable drop"));
        must(&format!("{nft} add rule inet cut output oifname cable drop"));
    }

    fn mend(&self) {
        must(&format!("ip netns exec {} nft delete table inet cut", self.here));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in [&self.here, &self.there] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Copies the home as another device would have it, with the same path and key, visible only to the program
/// that is started there. Returns the arguments of `ip` that come before that program.
fn elsewhere(bed: &Bed, namespace: &str) -> Vec<String> {
    let (home, copy) = (bed.home(), bed.folder().join("copy"));
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&home).unwrap().flatten() {
        let name = entry.file_name();
        if ["device.key", "home.id", "ghost.modules.json", "modules"].iter().any(|kept| name == *kept) {
            must(&format!("cp -a {} {}", entry.path().display(), copy.display()));
        }
    }
    let script = "mount -t tmpfs -o mode=0700 tmpfs \"$0\" && cp -a \"$1\"/. \"$0\" && chmod 0700 \"$0\" && shift && exec \"$@\"";
    let words = ["netns", "exec", namespace, "sh", "-c", script];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.push(home.display().to_string());
    words.push(copy.display().to_string());
    words
}

fn node(bed: &Bed, before: &[String], name: &str, listen: &str, gpmd: &str) -> Terminal {
    let mut words: Vec<&str> = before.iter().map(String::as_str).collect();
    words.extend([GVM, "--name", name, "--listen", listen, "--gpmd", gpmd]);
    let home = bed.home();
    let node = Terminal::open("ip", &words, &[("GHOST_HOME", home.to_str().unwrap())], bed.folder());
    node.wait_for_text(&format!("({name}) >"));
    node
}

/// Waits until the screen shows the text; returns the time since `since`.
#[track_caller]
fn until(node: &Terminal, text: &str, since: Instant) -> Duration {
    node.wait_for_text(text);
    since.elapsed()
}

#[test]
fn both_sides_know_and_meet_again() {
    if !rustix::process::getuid().is_root() {
        eprintln!("not run: network namespaces need root");
        return;
    }
    let cable = Cable::new();
    let bed = Bed::bare();
    let here: Vec<String> = ["netns", "exec", &cable.here].map(str::to_owned).into();
    let mut gpmd = bed.command("ip");
    gpmd.args(&here).args([GPMD, "start", "--foreground", "--listen", HERE]);
    let gpmd = Running::start(&mut gpmd);
    wait_until("gpmd answers", || bed.gpmd(["status"]).status == Some(0));
    bed.upload("spin", &crate::guests::wat("spin"));
    let status: serde_json::Value = serde_json::from_str(&bed.gpmd(["status", "--json"]).ok()).unwrap();
    let address = status["address"].as_str().unwrap();
    let a = node(&bed, &here, "a", HERE, address);
    let b = node(&bed, &elsewhere(&bed, &cable.there), "b", THERE, address);
    a.enter("Node.connect(b)");
    a.wait_for_text("\nb\n");
    b.wait_for_text("[a connected]");
    // Each node runs a call on the other that never ends by itself.
    a.enter("Node.run(b, spin.spin())");
    b.enter("Node.run(a, spin.spin())");
    a.wait_for_text("ID:  ");
    b.wait_for_text("ID:  ");
    std::thread::sleep(Duration::from_millis(300));
    let cut = Instant::now();
    cable.cut();
    let known = [
        until(&a, "NODE_DOWN: ", cut),
        until(&b, "NODE_DOWN: ", cut),
        until(&a, "[b is gone: connection lost]", cut),
        until(&b, "[a is gone: connection lost]", cut),
    ];
    eprintln!("known after {known:?}");
    assert!(known.iter().all(|known| *known < KNOWN), "{known:?}");
    for node in [&a, &b] {
        assert!(node.text().contains("unknown whether"), "{}", node.text());
    }
    let mended = Instant::now();
    cable.mend();
    wait_until("gpmd knows both again", || bed.nodes() == ["a", "b"]);
    eprintln!("gpmd knows both after {:?}", mended.elapsed());
    // The node that opened the connection opens it again by itself.
    let again = [
        until(&a, "[b connected]", mended),
        b.wait("a second connection", |screen| {
            (screen.contents().matches("[a connected]").count() > 1).then(|| mended.elapsed())
        }),
    ];
    eprintln!("together again after {again:?}");
    a.enter("Node.run(b, spin.none-such())");
    a.wait_for_text("FUNCTION_NOT_FOUND");
    drop((a, b));
    gpmd.signal(rustix::process::Signal::TERM);
    gpmd.end();
}
