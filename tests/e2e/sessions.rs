//! Sessions: what a peer may call, for how long, and how it is admitted.
//!
//! In: nodes with rights, session times and policies. Out: what their peers may do, and what the peers are
//! told when a session ends. Must not know: how a session is stored.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value as Json;

use crate::bed::{Bed, GVM, Node};
use crate::guests;
use crate::process::{Running, cpu_time, wait_for, wait_until};
use crate::terminal::Terminal;

/// The product promises 200 ms; a machine with two processors that also runs other tests may take longer.
const BOUND: Duration = Duration::from_millis(1000);

/// Returns code, outcome and message of the last line of a process's output.
#[track_caller]
fn last_error(ended: &crate::process::Ended) -> (String, String, String) {
    let error = ended.json().last().unwrap()["error"].clone();
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    (text("code"), text("outcome"), text("message"))
}

/// Waits until a node's guest uses processor time.
fn wait_until_busy(pid: Pid) {
    let idle = cpu_time(pid);
    wait_until("the guest spins", || cpu_time(pid) > idle + Duration::from_millis(100));
}

/// Asserts that a node's guest stops within [`BOUND`] after `started`.
#[track_caller]
fn assert_stops(pid: Pid, started: Instant) {
    let mut last = (cpu_time(pid), Instant::now());
    wait_until("the guest stops", || {
        let now = cpu_time(pid);
        if now > last.0 {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(300)
    });
    let took = last.1 - started;
    eprintln!("the guest stopped within {took:?}");
    assert!(took < BOUND, "{took:?}");
}

/// Waits for the first event of this kind in the output of a node with `--json`, and returns it.
#[track_caller]
fn wait_for_event(running: &Running, kind: &str) -> Json {
    wait_for(&format!("the event {kind}; the output is {}{}", running.out(), running.err()), || {
        let out = running.out();
        let mut lines = out.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        lines.find_map(|line| serde_json::from_str::<Json>(line).ok().filter(|line| line["event"] == kind))
    })
}

#[test]
fn rights_by_pattern() {
    let bed = Bed::stocked();
    bed.upload("counter", &guests::wat("counter"));
    let rules = ["--allow-call", "math.*", "--allow-call", "friend=values.echo-u8"];
    let _b = bed.node_with("b", &rules);
    let eval = |name: &str, call: &str| bed.eval(["--json", "--name", name, "Node.connect(b)", call]);
    let refused = |name: &str, call: &str| {
        let (code, outcome, message) = last_error(&eval(name, call));
        assert_eq!((code.as_str(), outcome.as_str()), ("NOT_PERMITTED", "not-started"), "{call}: {message}");
        message
    };
    assert_eq!(eval("anyone", "Node.run(b, math.add(1, 2))").json()[1]["result"], 3);
    assert_eq!(eval("friend", "Node.run(b, values.echo_u8(7))").json()[1]["result"], 7);
    let message = refused("anyone", "Node.run(b, values.echo-u8(7))");
    assert!(message.contains("to call `values.echo-u8`; it allows only `math.*`"), "{message}");
    let help = eval("anyone", "Node.run(b, values.echo-u8(7))").json()[1]["error"]["help"].clone();
    assert_eq!(help, "start `b` with `--allow-call 'anyone=values.echo-u8'` to allow it");
    // The pattern for a function does not include the module's main.
    refused("friend", "Node.run(b, math)");
    // Only a caller with the right to call a name learns that the name does not exist.
    let (code, ..) = last_error(&eval("friend", "Node.run(b, math.nothing())"));
    assert_eq!(code, "FUNCTION_NOT_FOUND");
    refused("friend", "Node.run(b, values.nothing())");
    refused("friend", "Node.run(b, nothing.at-all())");
    // The same rights apply to calls on instances.
    bed.eval(["--name", "friend", "Node.connect(b)", "Node.spawn(b, counter)"]).fails("NOT_PERMITTED");
    let said =
        bed.eval(["--json", "--name", "friend", "Node.connect(b)", "Node.spawn(b, math)", "i1.add(3, 4)"]);
    assert_eq!(said.json()[2]["result"], 7);
    let words = ["--json", "--name", "friend", "Node.connect(b)", "Node.spawn(b, values)"];
    let said = bed.eval(words.into_iter().chain(["i1.echo-u8(9)", "i1.echo-u16(9)"]));
    assert_eq!(said.json()[2]["result"], 9);
    assert_eq!(last_error(&said).0, "NOT_PERMITTED");
    // The caller can list its rights.
    assert_eq!(
        bed.eval(["--name", "friend", "Node.connect(b)", "Node.rights(b)"]).ok(),
        "b\nmath.*\nvalues.echo-u8\n"
    );
    let rights = eval("anyone", "Node.rights(b)").json()[1]["result"].clone();
    assert_eq!(rights, serde_json::json!({ "calls": ["math.*"], "expires": null }));
    // Without a rule everything is allowed, including modules that the caller sends.
    let _c = bed.node("c");
    assert_eq!(bed.eval(["Node.connect(c)", "Node.rights(c)"]).ok(), "c\neverything\n");
}

#[test]
fn modules_that_come_along_take_the_right_to_everything() {
    let bed = Bed::stocked();
    let file = bed.write("math.wat", std::fs::read(guests::math()).unwrap());
    let _some = bed.node_with("some", &["--allow-call", "math", "--allow-call", "math.*"]);
    let _all = bed.node_with("all", &["--allow-call", "*"]);
    let words = |node: &'static str| {
        ["--node", node, "--invoke", "add(1, 2)", file.to_str().unwrap()].map(str::to_owned)
    };
    let said = bed.run(words("some")).fails("NOT_PERMITTED");
    assert!(said.contains("to send its own modules; it allows only `math`, `math.*`"), "{said}");
    assert!(bed.run(words("all")).ok().ends_with("3\n"));
}

#[test]
fn rights_hold_for_the_node_that_is_dialled_too() {
    let bed = Bed::stocked();
    let mut a = bed.node_with("a", &["--allow-call", "b=math.add"]);
    let mut b = bed.node("b");
    a.ask("Node.connect(b)");
    b.tell("Node.run(a, math.add(1, 2))");
    b.running.wait_for_out("\n3\n");
    b.tell("Node.rights(a)");
    b.running.wait_for_out("\nmath.add\n");
    b.tell("Node.run(a, values.echo-u8(1))");
    b.running.end().fails("NOT_PERMITTED");
}

#[test]
fn rules_that_cannot_be_read() {
    let bed = Bed::bare();
    for rule in ["", "a b", "math.add(1)", "B=math.*", "=math"] {
        let ended = bed.gvm(["--allow-call", rule]);
        assert_eq!(ended.status, Some(2), "{rule:?}: {}", ended.err());
    }
    assert_eq!(bed.gvm(["--session-time", "soon"]).status, Some(2));
}

/// Revoking stops the peer's calls, frees its instances, and denies new connections from it.
#[test]
fn revoked() {
    let bed = Bed::stocked();
    bed.upload("counter", &guests::wat("counter"));
    let mut b = bed.node("b");
    let mut a = Running::start(bed.command(GVM).args(["--name", "a", "--json"]));
    a.write(b"Node.connect(b)\nNode.spawn(b, counter)\nNode.run(b, values.spin())\n");
    wait_until_busy(b.pid());
    let started = Instant::now();
    assert_eq!(b.ask("Node.revoke(a)"), "Session revoked.");
    assert_stops(b.pid(), started);
    assert_eq!(
        wait_for_event(&a, "down"),
        serde_json::json!({ "event": "down", "node": "b", "why": "revoked" })
    );
    let ended = a.end();
    let lines = ended.json();
    let error = &lines.iter().find(|line| line["error"].is_object()).unwrap()["error"];
    assert_eq!((&error["code"], &error["outcome"]), (&"NOT_PERMITTED".into(), &"ran-and-failed".into()));
    b.tell("Node.list()");
    assert_eq!(b.ask("Node.discover()"), "b", "the revoked peer is no longer listed");
    // A revoked peer cannot reconnect by itself, whatever the policy allows.
    let denied = bed.eval(["--name", "a", "Node.connect(b)"]).fails("CONNECTION_DENIED");
    assert!(denied.contains("help: ask the person at `b` to run `Node.connect(a)` there"), "{denied}");
    assert_eq!(bed.eval(["--name", "c", "Node.connect(b)"]).ok(), "b\n", "other peers can connect");
    // After the person at `b` connects to `a`, `a` may connect again.
    let mut a = bed.node("a");
    assert_eq!(b.ask("Node.connect(a)"), "a");
    assert_eq!(b.ask("Node.disconnect(a)"), "Client disconnected.");
    assert_eq!(a.ask("Node.connect(b)"), "b");
    b.tell("Node.revoke(nobody)");
    b.running.end().fails("NODE_NOT_CONNECTED");
}

#[test]
fn expired() {
    let bed = Bed::stocked();
    let b = Running::start(bed.command(GVM).args(["--name", "b", "--json", "--session-time", "1500ms"]));
    wait_until("b is there", || bed.nodes() == ["b"]);
    let mut a = Running::start(bed.command(GVM).args(["--name", "a", "--json"]));
    let began = Instant::now();
    a.write(b"Node.connect(b)\nNode.rights(b)\nNode.run(b, values.spin())\n");
    let down = |node: &str| serde_json::json!({ "event": "down", "node": node, "why": "expired" });
    assert_eq!(wait_for_event(&b, "down"), down("a"));
    assert_eq!(wait_for_event(&a, "down"), down("b"));
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1500), "{took:?}");
    assert_stops(b.pid(), began + Duration::from_millis(1500));
    let lines = a.end().json();
    let until = lines.iter().find_map(|line| line["result"]["expires"].as_str()).unwrap();
    assert!(until.starts_with("20") && until.ends_with('Z'), "{until}");
    let error = &lines.iter().find(|line| line["error"].is_object()).unwrap()["error"];
    assert_eq!((&error["code"], &error["outcome"]), (&"NOT_PERMITTED".into(), &"ran-and-failed".into()));
    assert!(error["message"].as_str().unwrap().contains("expired"), "{error}");
    // The peer may connect again.
    let again = bed.eval(["--name", "a", "Node.connect(b)", "Node.run(b, values.echo-u8(1))"]).ok();
    assert!(again.ends_with("\n1\n"), "{again}");
    assert_eq!(b.finish().status, Some(0));
}

/// Starts a node at a terminal that asks the person there before it accepts a peer.
fn asking(bed: &Bed) -> Terminal {
    let home = bed.home();
    let env = [("GHOST_HOME", home.to_str().unwrap()), ("NO_COLOR", "1")];
    let b = Terminal::open(GVM, &["--name", "b", "--accept", "ask"], &env, bed.folder());
    b.wait_for_text("(b) >");
    b
}

#[test]
fn a_person_is_asked() {
    let bed = Bed::stocked();
    let b = asking(&bed);
    // The question does not change the line that is being typed.
    b.press("values.echo-u8(4");
    let a = bed.start_gvm(["eval", "--name", "a", "Node.connect(b)", "Node.run(b, values.echo-u8(5))"]);
    b.wait_for_text("a wants to connect. Allow? [y/N]");
    wait_until("a reports that it waits", || a.err().contains("waiting for the user of b to accept"));
    b.enter("2)");
    b.wait_for_text("\n42");
    b.enter("Yes");
    assert!(a.end().ok().ends_with("\n5\n"));
    b.wait_for_text("[a connected]");
    b.wait_for_text("[a is gone: shut down]");
    // An empty line means no.
    let c = bed.start_gvm(["eval", "--name", "c", "Node.connect(b)"]);
    b.wait_for_text("c wants to connect. Allow? [y/N]");
    b.enter("");
    let denied = c.end().fails("CONNECTION_DENIED");
    assert!(denied.contains("the person at `b` denied `c`"), "{denied}");
    b.wait_for_text("[c was denied]");
}

#[test]
fn who_asks_may_change_their_mind() {
    let bed = Bed::stocked();
    let b = asking(&bed);
    let first = bed.start_gvm(["eval", "--name", "first", "Node.connect(b)"]);
    b.wait_for_text("first wants to connect. Allow? [y/N]");
    let second = bed.start_gvm(["run", "--name", "second", "--node", "b", "math"]);
    wait_until("the second peer waits", || second.err().contains("waiting for the user of b to accept"));
    assert!(!b.text().contains("second wants"), "one question at a time:\n{}", b.text());
    let started = Instant::now();
    first.signal(Signal::INT);
    assert_eq!(first.end().status, Some(130));
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
    b.wait_for_text("[first no longer waits: ");
    b.wait_for_text("second wants to connect. Allow? [y/N]");
    b.enter("y");
    assert_eq!(second.end().ok(), "Reponse from the math module...\n");
}

#[test]
fn nobody_is_there_to_be_asked() {
    let bed = Bed::stocked();
    let b = Running::start(bed.command(GVM).args(["--name", "b", "--json", "--accept", "ask"]));
    wait_until("b is there", || bed.nodes() == ["b"]);
    let denied = bed.eval(["--name", "a", "Node.connect(b)"]).fails("CONNECTION_DENIED");
    assert!(denied.contains("no one is there to answer"), "{denied}");
    assert_eq!(wait_for_event(&b, "asked")["node"], "a");
    assert_eq!(wait_for_event(&b, "ask-ended")["why"], "no one is there to answer");
}

/// A node that is told to end lets its peers' calls end first, refuses new ones, and gives its peers the
/// reason.
#[test]
fn leaving_lets_calls_end() {
    let bed = Bed::stocked();
    let mut b = bed.node("b");
    let mut late = bed.node("late");
    late.ask("Node.connect(b)");
    let words = ["eval", "--name", "a", "Node.connect(b)", "Node.run(b, values.sleep(2000))"];
    let slow = bed.start_gvm(words.into_iter().chain(["Node.list()"]));
    slow.wait_for_out("sleeping");
    b.running.close_stdin();
    wait_until("b waits", || {
        b.running.err().contains("[waiting for 1 call to end; press Ctrl-C to stop it]")
    });
    late.tell("Node.run(b, values.echo-u8(1))");
    let refused = late.running.end().fails("NODE_DOWN");
    assert!(refused.contains("is shutting down"), "{refused}");
    bed.eval(["Node.connect(b)"]).fails("NODE_DOWN");
    let ended = slow.end();
    assert!(ended.err().contains("[b is gone: shut down]") || ended.out().ends_with("b\n"), "{ended:?}");
    ended.ok();
    assert_eq!(b.running.end().status, Some(0));
}

#[test]
fn leaving_takes_back_what_does_not_end() {
    let bed = Bed::stocked();
    for hurry in [false, true] {
        let mut b = bed.node("b");
        let spinning = bed.start_gvm(["eval", "--json", "Node.connect(b)", "Node.run(b, values.spin())"]);
        wait_until_busy(b.pid());
        let started = Instant::now();
        b.running.close_stdin();
        wait_until("b waits", || {
            b.running.err().contains("[waiting for 1 call to end; press Ctrl-C to stop it]")
        });
        if hurry {
            b.running.signal(Signal::INT);
        }
        let ended = spinning.end();
        let took = started.elapsed();
        assert_eq!(took < Duration::from_secs(4), hurry, "{took:?}");
        assert!(took < Duration::from_secs(9), "{took:?}");
        let lines = ended.json();
        let error = &lines.iter().find(|line| line["error"].is_object()).unwrap()["error"];
        assert_eq!((&error["code"], &error["outcome"]), (&"NODE_DOWN".into(), &"ran-and-failed".into()));
        assert_eq!(b.running.end().status, Some(0));
    }
}

/// Scripts receive events: as JSON between the results with `--json`, otherwise as text on standard error.
#[test]
fn events_in_scripts() {
    let mut bed = Bed::stocked();
    let json = Running::start(bed.command(GVM).args(["--name", "json", "--json"]));
    let plain: Node = bed.node("plain");
    wait_until("both are there", || bed.nodes().len() == 2);
    bed.eval(["--name", "a", "Node.connect(json)", "Node.connect(plain)"]).ok();
    assert_eq!(wait_for_event(&json, "connected"), serde_json::json!({ "event": "connected", "node": "a" }));
    let down = serde_json::json!({ "event": "down", "node": "a", "why": "shut down" });
    assert_eq!(wait_for_event(&json, "down"), down);
    wait_until("the other node reports it", || plain.running.err().contains("[a is gone: shut down]"));
    assert!(plain.running.err().starts_with("[a connected]\n"), "{}", plain.running.err());
    bed.kill_gpmd();
    wait_for_event(&json, "gpmd-lost");
    bed.start_gpmd();
    wait_for_event(&json, "gpmd-back");
    let killed = bed.node("b");
    let mut json = json;
    json.write(b"Node.connect(b)\n");
    json.wait_for_out("\"result\":\"b\"");
    killed.kill();
    wait_until("the loss of b is reported", || {
        json.out().contains(r#"{"event":"down","node":"b","why":"connection lost"}"#)
    });
    // A line is either an event or a result.
    let ended = json.finish();
    assert_eq!(ended.status, Some(0));
    assert!(ended.json_lines().iter().all(|line| line["event"].is_string() != line.get("result").is_some()));
}
