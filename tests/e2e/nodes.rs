//! Nodes of one home: discovery, connections, refusals and loss.
//!
//! In: several nodes of one home. Out: what each node sees of the others. Must not know: values.

use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::guests;
use crate::process::{Running, wait_until};

#[test]
fn find_and_connect() {
    let bed = Bed::stocked();
    let mut a = bed.node("a");
    let mut b = bed.node("b");
    assert_eq!(a.ask("Node.discover()"), "a,b");
    assert_eq!(a.ask("Node.connect(b)"), "b");
    assert_eq!(a.ask("Node.list()"), "b");
    assert_eq!(b.ask("Node.list()"), "a", "both sides list each other");
    assert_eq!(a.ask("Node.connect(\"b\")"), "b", "connecting twice is harmless");
    assert_eq!(b.ask("Node.connect(a)"), "a", "either side can connect");
    assert_eq!((a.ask("Node.list()"), b.ask("Node.list()")), ("b".into(), "a".into()));
    // After that, each node can run calls on the other.
    b.tell("Node.run(a, values.echo-u8(7))");
    b.running.wait_for_out("\n7\n");
    assert_eq!(a.ask("Node.disconnect(b)"), "Client disconnected.");
    let mut c = bed.node("c");
    a.tell("Node.list()");
    assert_eq!(a.ask("Node.discover()"), "a,b,c", "an empty `Node.list()` prints nothing");
    assert_eq!(c.ask("Node.discover()"), "a,b,c");
}

#[test]
fn disconnecting_ends_it_for_both() {
    let bed = Bed::stocked();
    let mut a = bed.node("a");
    let mut b = bed.node("b");
    a.ask("Node.connect(b)");
    a.ask("Node.disconnect(b)");
    b.tell("Node.run(a, math)");
    b.running.end().fails("NODE_NOT_CONNECTED");
    a.tell("Node.run(b, math)");
    a.running.end().fails("NODE_NOT_CONNECTED");
}

#[test]
fn without_a_connection() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    let err = bed.eval(["Node.run(b, math)"]).fails("NODE_NOT_CONNECTED");
    assert!(err.contains("Node.connect(b)"), "{err}");
    bed.eval(["Node.connect(nobody)"]).fails("NODE_NOT_FOUND");
    bed.eval(["Node.disconnect(b)"]).fails("NODE_NOT_CONNECTED");
    let ended = bed.eval(["--json", "Node.run(b, math.add(1, 2))"]);
    assert_eq!(ended.json()[0]["error"]["outcome"], "not-started");
}

#[test]
fn accept_policies() {
    let bed = Bed::stocked();
    let _none = bed.node_with("none", &["--accept", "none"]);
    let _some = bed.node_with("some", &["--accept", "friend,other"]);
    bed.eval(["Node.connect(none)"]).fails("CONNECTION_DENIED");
    bed.eval(["--name", "stranger", "Node.connect(some)"]).fails("CONNECTION_DENIED");
    assert_eq!(bed.eval(["--name", "friend", "Node.connect(some)"]).ok(), "some\n");
    bed.run(["--node", "none", "math"]).fails("CONNECTION_DENIED");
    // A node that accepts no one can still connect to others.
    let open = bed.eval(["--accept", "none", "--name", "friend", "Node.connect(some)", "Node.list()"]);
    assert_eq!(open.ok(), "some\nsome\n");
}

#[test]
fn one_name_one_node() {
    let bed = Bed::stocked();
    let b = bed.node("b");
    bed.gvm(["--name", "b"]).fails("NODE_NAME_TAKEN");
    b.kill();
    let mut again = bed.node("b");
    assert_eq!(again.ask("Node.discover()"), "b");
    for name in ["B", "-b", "b--c", "node", "module", "exit", "help", ""] {
        let ended = bed.gvm(["--name", name]);
        assert_eq!(ended.status, Some(2), "{name:?}: {}", ended.err());
    }
}

/// A node is killed while it runs calls: its callers get an error within a second, it is no longer listed,
/// and its name can be used again.
#[test]
fn a_killed_node() {
    let bed = Bed::stocked();
    for (call, sign) in [("values.spin()", "spinning"), ("values.sleep(60000)", "sleeping")] {
        let b = bed.node("b");
        let words = ["eval", "--json", "Node.connect(b)", &format!("Node.run(b, {call})")];
        let json = bed.start_gvm(words);
        let shown = bed.start_gvm(["eval", "Node.connect(b)", &format!("Node.run(b, {call})")]);
        shown.wait_for_out(sign);
        wait_until("the other call runs too", || json.out().contains("\"result\":\"b\""));
        let started = Instant::now();
        b.kill();
        let ended = shown.end();
        let took = started.elapsed();
        eprintln!("{call}: NODE_DOWN after {took:?}");
        ended.fails("NODE_DOWN");
        assert!(took < Duration::from_secs(1), "{took:?}");
        let ended = json.end();
        let error = ended.json().last().unwrap()["error"].clone();
        assert_eq!(error["code"], "NODE_DOWN", "{}", ended.out());
        wait_until("the killed node is no longer listed", || bed.nodes().is_empty());
    }
    let sockets = bed.home().join("nodes");
    wait_until("its sockets are removed", || std::fs::read_dir(&sockets).unwrap().count() == 0);
    let mut b = bed.node("b");
    assert_eq!(b.ask("Node.discover()"), "b");
}

/// The outcome of a call that was running when its node died is `unknown`.
#[test]
fn a_killed_node_leaves_the_outcome_unknown() {
    let bed = Bed::stocked();
    let b = bed.node("b");
    let caller = bed.start_gvm(["eval", "--json", "Node.connect(b)", "Node.run(b, values.spin())"]);
    let idle = crate::process::cpu_time(b.pid());
    wait_until("the guest spins", || crate::process::cpu_time(b.pid()) > idle + Duration::from_millis(100));
    b.kill();
    let ended = caller.end();
    let error = &ended.json().last().unwrap()["error"].clone();
    assert_eq!(
        (&error["code"], &error["outcome"]),
        (&"NODE_DOWN".into(), &"unknown".into()),
        "{}",
        ended.out()
    );
}

#[test]
fn the_survivor_forgets() {
    let bed = Bed::stocked();
    let mut a = bed.node("a");
    let b = bed.node("b");
    a.ask("Node.connect(b)");
    assert_eq!(a.ask("Node.list()"), "b");
    b.kill();
    wait_until("the killed node is no longer listed", || bed.nodes() == ["a"]);
    assert_eq!(a.ask("Node.discover()"), "a");
    a.tell("Node.list()");
    assert_eq!(a.ask("Node.discover()"), "a", "an empty `Node.list()` prints nothing");
    let mut b = bed.node("b");
    assert_eq!(a.ask("Node.connect(b)"), "b", "its name can be used again");
    assert_eq!(b.ask("Node.list()"), "a");
}

/// The daemon is killed and restarted: connections and calls go on, and names and ids stay the same.
#[test]
fn gpmd_dies_and_returns() {
    let mut bed = Bed::stocked();
    let mut a = bed.node("a");
    let mut b = bed.node("b");
    let ids = |bed: &Bed| {
        let status: serde_json::Value = serde_json::from_str(&bed.gpmd(["status", "--json"]).ok()).unwrap();
        let nodes = status["nodes"].as_array().unwrap().clone();
        nodes.iter().map(|node| (node["name"].to_string(), node["id"].to_string())).collect::<Vec<_>>()
    };
    let before = ids(&bed);
    a.ask("Node.connect(b)");
    bed.kill_gpmd();
    assert_eq!((a.ask("Node.list()"), b.ask("Node.list()")), ("b".into(), "a".into()));
    // Modules still run, including modules that were not loaded before.
    a.tell("values.echo-u8(1)");
    a.running.wait_for_out("\n1\n");
    a.tell("Node.run(b, values.echo-u8(2))");
    a.running.wait_for_out("\n2\n");
    bed.start_gpmd();
    wait_until("both are registered again", || ids(&bed) == before);
    assert_eq!(bed.eval(["Node.connect(a)", "Node.connect(b)"]).ok(), "a\nb\n");
}

/// Nodes that already run use a new module from the next call on.
#[test]
fn uploads_reach_every_node() {
    let bed = Bed::stocked();
    let mut a = bed.node("a");
    let _b = bed.node("b");
    a.ask("Node.connect(b)");
    for version in ["1.0.0", "1.0.1"] {
        let answer = if version == "1.0.0" { 1 } else { 2 };
        let text = format!("(module (func (export \"increment\") (result i32) (i32.const {answer})))");
        let file = bed.write("fresh.wat", text);
        let (version_word, file) = (format!("--version={version}"), format!("--file={}", file.display()));
        bed.gpmd(["wasm", "upload", "--name=fresh", &version_word, &file]).ok();
        let expected = if version == "1.0.0" { "1" } else { "2" };
        assert_eq!(a.ask("fresh.increment()"), expected);
        let id = a.ask("Node.run(b, fresh.increment())");
        assert!(id.starts_with("ID:  "), "{id}");
        assert_eq!(a.rest(), expected);
    }
    assert_eq!(a.ask("fresh@1.0.0.increment()"), "1");
    bed.gpmd(["wasm", "pin", "fresh", "1.0.0"]).ok();
    assert_eq!(a.ask("fresh.increment()"), "1");
}

/// Homes on one device do not see each other.
#[test]
fn homes_are_apart() {
    let (one, two) = (Bed::stocked(), Bed::stocked());
    let _a = one.node("a");
    let mut b = two.node("b");
    assert_eq!(b.ask("Node.discover()"), "b");
    two.eval(["Node.connect(a)"]).fails("NODE_NOT_FOUND");
}

/// A home whose path is longer than the path of a Unix socket may be.
#[test]
fn a_long_path() {
    let mut bed = Bed::bare();
    let long = bed.folder().join("x".repeat(60)).join("y".repeat(60));
    std::fs::create_dir_all(&long).unwrap();
    bed.move_home(long.join("home"));
    bed.start_gpmd();
    bed.upload("math", &guests::math());
    let _b = bed.node("b");
    let out = bed.eval(["Node.connect(b)", "Node.run(b, math.add(1, 2))"]).ok();
    assert!(out.ends_with("\n3\n"), "{out}");
}

/// A node that shuts down in order tells its peers at once.
#[test]
fn leaving_in_order() {
    let bed = Bed::stocked();
    let mut a = bed.node("a");
    let b: Running = bed.node("b").running;
    a.ask("Node.connect(b)");
    assert_eq!(b.finish().status, Some(0));
    a.tell("Node.run(b, math)");
    a.running.end().fails("NODE_NOT_CONNECTED");
}
