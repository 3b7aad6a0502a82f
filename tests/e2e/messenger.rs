//! Guests that call other nodes themselves.
//!
//! In: a module that imports `gvm:node/nodes`. Out: calls from node to node with their output, errors and
//! cancellation, or `NOT_PERMITTED` without the grant. Must not know: how calls are forwarded.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bed::{Bed, Node};
use crate::guests;
use crate::process::wait_until_idle;

/// Returns a home that stores the module `messenger`.
fn bed() -> Bed {
    let bed = Bed::stocked();
    bed.upload("messenger", &guests::p2("messenger"));
    bed
}

fn node(bed: &Bed, name: &str) -> Node {
    bed.node_with(name, &["--grant", "nodes"])
}

#[test]
fn has_what_the_repl_has() {
    let bed = bed();
    let _b = bed.node("b");
    let out = bed.eval([
        "--name=a",
        "--grant=nodes",
        "messenger.here()",
        "messenger.discover()",
        "messenger.connected()",
        r#"messenger.run("b", "math.add(1, 2)")"#,
        r#"messenger.connect("b")"#,
        "messenger.connected()",
        "Node.list()",
        r#"messenger.run("b", "values.echo-tuple((1, \"two\", {x: 3, y: 4}))")"#,
        r#"messenger.run("b", "values.nothing()")"#,
        r#"messenger.run("a", "values.echo-u8(7)")"#,
        r#"messenger.run("b", "values.echo-u8(values.echo-u8(7))")"#,
        r#"messenger.run("b", "values.trap-unreachable()")"#,
        r#"messenger.run("b", "none-such.f()")"#,
        r#"messenger.run("b", "one two")"#,
        r#"messenger.disconnect("b")"#,
        "messenger.connected()",
    ]);
    let out = out.ok();
    let lines: Vec<&str> = out.lines().collect();
    let expected = [
        "\"a\"",
        "ok([\"a\", \"b\"])",
        "[]",
        "err(\"NODE_NOT_CONNECTED (Effect::NotStarted): ",
        "ok",
        "[\"b\"]",
        "b",
        r#"ok(some("(1, \"two\", {x: 3, y: 4})"))"#,
        "ok(none)",
        "ok(some(\"7\"))",
        "err(\"BAD_ARGUMENTS (Effect::NotStarted): a module makes one call at a time",
        "err(\"TRAP (Effect::RanAndFailed): ",
        "err(\"MODULE_NOT_FOUND (Effect::NotStarted): ",
        "err(\"SYNTAX (Effect::NotStarted): ",
        "ok",
        "[]",
    ];
    assert_eq!(lines.len(), expected.len(), "{out}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} instead of {expected}");
    }
}

#[test]
fn not_granted() {
    let bed = bed();
    let _b = bed.node("b");
    let err = bed.eval(["messenger.here()"]).fails("NOT_PERMITTED");
    assert!(err.contains("--grant nodes"), "{err}");
    let err = bed.eval(["Node.connect(b)", "Node.run(b, messenger.here())"]).fails("NOT_PERMITTED");
    assert!(err.contains("--grant nodes"), "{err}");
    // Without the grant the module can still be used: a function that returns a result returns the error.
    let out = bed.eval(["messenger.discover()", "Node.spawn(messenger)"]).ok();
    assert!(
        out.starts_with("err(\"NOT_PERMITTED (Effect::NotStarted): ") && out.ends_with("\ni1\n"),
        "{out}"
    );
    // The node of a single call is part of the network too.
    assert_eq!(bed.run(["--grant=nodes", "--name=x", "messenger.here()"]).ok(), "\"x\"\n");
    let refused = bed.run(["--grant=nodes", "--node=b", "messenger.here()"]);
    assert_eq!(refused.status, Some(2), "{}", refused.err());
}

#[test]
fn from_node_to_node_to_node() {
    let bed = bed();
    let (mut a, mut b, c) = (node(&bed, "a"), node(&bed, "b"), node(&bed, "c"));
    a.ask("Node.connect(b)");
    b.ask("Node.connect(c)");
    let statement = r#"messenger.relay(["b", "c"], "values.speak(\"hello\")")"#;
    assert_eq!(a.ask(statement), "a asks b");
    assert_eq!(a.rest(), "b asks c");
    assert_eq!(a.rest(), "hello", "output that is written on another node arrives here");
    assert_eq!(a.rest(), "");
    assert!(a.rest().starts_with("ok(some(\"ok(some(\\\"ok(some("));
    // A live instance can call other nodes too, several times.
    let i = a.ask("Node.spawn(messenger)");
    for _ in 0..3 {
        assert_eq!(a.ask(&format!(r#"{i}.run("b", "values.echo-u8(9)")"#)), "ok(some(\"9\"))");
    }
    drop(c);
}

#[test]
fn a_live_instance_that_is_asked_by_itself() {
    let bed = bed();
    let mut a = node(&bed, "a");
    let mut b = node(&bed, "b");
    a.ask("Node.connect(b)");
    // A fresh instance may call its own node: it is another instance. The depth is bounded.
    let deep = a.ask("messenger.recurse()");
    assert!(deep.contains("LIMIT_EXCEEDED") && deep.contains("nest"), "{deep}");
    // A call that returns to the first node through another node does not deadlock.
    let back = a.ask(r#"messenger.relay(["b", "a"], "values.echo-u8(5)")"#);
    assert_eq!(back, "a asks b");
    assert_eq!(a.rest(), "b asks a");
    assert_eq!(a.rest(), "");
    assert!(a.rest().contains('5'));
    b.ask("Node.list()");
}

#[test]
fn taken_back_through_all() {
    let bed = bed();
    let (mut a, mut b, c) = (node(&bed, "a"), node(&bed, "b"), node(&bed, "c"));
    a.ask("Node.connect(b)");
    b.ask("Node.connect(c)");
    for call in ["values.spin()", "values.sleep(60000)"] {
        let caller = bed.start_gvm([
            "eval",
            "--grant=nodes",
            "Node.connect(a)",
            &format!(r#"Node.run(a, messenger.relay(["b", "c"], "{call}"))"#),
        ]);
        caller.wait_for_out(if call.contains("spin") { "spinning" } else { "sleeping" });
        let began = Instant::now();
        caller.signal(Signal::INT);
        assert_eq!(caller.finish().status, Some(130));
        for node in [&a, &b, &c] {
            wait_until_idle(node.pid());
        }
        eprintln!("{call}: all idle after {:?}", began.elapsed());
    }
    assert_eq!(a.ask(r#"messenger.run("b", "values.echo-u8(1)")"#), "ok(some(\"1\"))");
}

#[test]
fn time_reaches_through() {
    let bed = bed();
    let (mut a, b) = (node(&bed, "a"), node(&bed, "b"));
    a.ask("Node.connect(b)");
    let began = Instant::now();
    let ended = bed.eval([
        "--grant=nodes",
        "--timeout=700ms",
        "Node.connect(a)",
        r#"Node.run(a, messenger.relay(["b"], "values.spin()"))"#,
    ]);
    ended.fails("TIMEOUT");
    assert!(began.elapsed() < Duration::from_secs(10));
    wait_until_idle(b.pid());
    wait_until_idle(a.pid());
}

#[test]
fn spreads_its_work() {
    let bed = bed();
    let (mut a, b, c) = (node(&bed, "a"), node(&bed, "b"), node(&bed, "c"));
    a.ask("Node.connect(b)");
    a.ask("Node.connect(c)");
    let calls = r#"["messenger.here()", "messenger.here()", "messenger.here()", "messenger.here()"]"#;
    let here = a.ask(&format!("messenger.spread({calls})"));
    assert_eq!(here, r#"ok([some("\"a\""), some("\"b\""), some("\"c\""), some("\"a\"")])"#);
    drop((b, c));
}
