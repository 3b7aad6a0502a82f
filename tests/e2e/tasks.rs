//! Components whose functions run as async tasks: their calls, limits and state, here and on another node.
//!
//! In: the component `tasks`, and components as text. Out: the same as for other components. Must not know: which engine
//! runs them.

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::bed::Bed;
use crate::guests::{p1, p2};
use crate::process::{wait_until, wait_until_idle};

/// Calls of functions that are lifted async, with results of no slot, of one, of up to 16 and of more, and one call of a
/// function that is not async.
const CASES: &[(&str, &str)] = &[
    ("nothing()", ""),
    ("add(-1, 43)", "42"),
    (r#"greet("Ada")"#, r#""hello Ada""#),
    ("same-bytes([0, 1, 255])", "[0, 1, 255]"),
    (r#"same-person({name: "é", age: 7})"#, r#"{name: "é", age: 7}"#),
    ("same-shape(nothing)", "nothing"),
    ("same-shape(circle(0.5))", "circle(0.5)"),
    (r#"same-shape(text("a"))"#, r#"text("a")"#),
    ("same-shape(large(18446744073709551615))", "large(18446744073709551615)"),
    ("same-access({write})", "{write}"),
    (
        r#"same-wide({a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7, h: 8, text: "x", rest: (9, 10, 11, 12, 13, 14, 15)})"#,
        r#"{a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7, h: 8, text: "x", rest: (9, 10, 11, 12, 13, 14, 15)}"#,
    ),
    ("maybe(none)", "none"),
    (r#"maybe(some("x"))"#, r#"some("x")"#),
    (r#"checked("7")"#, "ok((7, 3.5))"),
    (r#"checked("x")"#, r#"err("no number: x")"#),
    (
        r#"same-twelve((255, -1, 0.5, nan, 'é', true, "s", ["a", ""], some(0)))"#,
        r#"(255, -1, 0.5, nan, 'é', true, "s", ["a", ""], some(0))"#,
    ),
    (r#"twice("ab")"#, r#""abab""#),
    ("sum(1000)", "499500"),
    ("nap(1)", r#""slept 1 ms""#),
];

fn stocked() -> Bed {
    let bed = Bed::new();
    bed.upload("tasks", &p2("tasks"));
    bed
}

#[test]
fn are_called_like_others() {
    let bed = stocked();
    let _b = bed.node("b");
    let mut lines =
        vec!["Node.connect(b)".to_owned(), "Node.spawn(tasks)".to_owned(), "Node.spawn(b, tasks)".to_owned()];
    for (call, _) in CASES {
        lines.extend([
            format!("tasks.{call}"),
            format!("Node.run(b, tasks.{call})"),
            format!("i1.{call}"),
            format!("i2.{call}"),
        ]);
    }
    let out = bed.eval(&lines).ok();
    let said: Vec<&str> = out.lines().skip(3).filter(|line| !line.starts_with("ID:  ")).collect();
    let expected: Vec<&str> =
        CASES.iter().filter(|(_, result)| !result.is_empty()).flat_map(|(_, result)| [*result; 4]).collect();
    assert_eq!(said, expected);
}

#[test]
fn keep_their_state_in_live_instances() {
    let bed = stocked();
    let _b = bed.node("b");
    let calls = [
        "tasks.count()",
        "tasks.count()",
        "i1.count()",
        "i1.count()",
        "i2.count()",
        "i2.count()",
        "i1.count()",
    ];
    let lines = [&["Node.connect(b)", "Node.spawn(tasks)", "Node.spawn(b, tasks)"], &calls[..]].concat();
    let out = bed.eval(lines).ok();
    let said: Vec<&str> = out.lines().skip(3).filter(|line| !line.starts_with("ID:  ")).collect();
    assert_eq!(said, ["1", "1", "1", "2", "1", "2", "3"]);
}

#[test]
fn a_large_result_is_not_slow() {
    let bed = stocked();
    let bytes: Vec<String> = (0..1 << 20).map(|index| (index % 256).to_string()).collect();
    let value = format!("[{}]", bytes.join(", "));
    let mut running = bed.start_gvm::<&str>([]);
    running.write(format!("tasks.same-bytes({value})\n").as_bytes());
    assert!(running.finish().ok().lines().last() == Some(&value), "another value comes back");
}

#[test]
fn write_output_as_they_run() {
    let bed = stocked();
    let _b = bed.node("b");
    for line in ["tasks.say(\"said\\n\")", "Node.run(b, tasks.say(\"said\\n\"))"] {
        let out = bed.eval(["Node.connect(b)", line]).ok();
        assert!(out.lines().any(|line| line == "said"), "{out}");
    }
}

#[test]
fn stop_at_their_limits_and_traps() {
    let bed = stocked();
    let _b = bed.node("b");
    for (options, call, code) in [
        (&["--timeout", "300ms"][..], "tasks.forever()", "TIMEOUT"),
        (&["--timeout", "300ms"], "tasks.spin()", "TIMEOUT"),
        (&["--max-memory", "4MiB"], "tasks.grow(50000000)", "LIMIT_EXCEEDED"),
        (&["--fuel", "1000000"], "tasks.spin()", "LIMIT_EXCEEDED"),
        (&["--max-output", "10"], "tasks.say(\"more than ten bytes\")", "LIMIT_EXCEEDED"),
        (&[], "tasks.trap()", "TRAP"),
        (&[], "tasks.stuck()", "TRAP"),
    ] {
        let there = format!("Node.run(b, {call})");
        for lines in [vec![call], vec!["Node.connect(b)", &there]] {
            let started = Instant::now();
            let err = bed.eval([options, &lines].concat()).err();
            assert!(err.lines().any(|line| line.starts_with(&format!("{code}: "))), "{lines:?}: {err}");
            assert!(started.elapsed() < Duration::from_secs(60), "{lines:?}");
        }
    }
    // Another instance runs after one that trapped.
    bed.eval(["Node.spawn(tasks)", "i1.trap()"]).fails("TRAP");
    assert_eq!(bed.eval(["Node.spawn(tasks)", "i1.count()"]).ok(), "i1\n1\n");
}

#[test]
fn are_cancelled() {
    let bed = stocked();
    let b = bed.node("b");
    for call in
        ["tasks.forever()", "tasks.spin()", "Node.run(b, tasks.forever())", "Node.run(b, tasks.spin())"]
    {
        let running = bed.start_gvm(["eval", "Node.connect(b)", call]);
        running.wait_for_out("begun");
        let started = Instant::now();
        running.signal(Signal::INT);
        let ended = running.end();
        assert!(ended.err().contains("CANCELLED: "), "{call}: {}", ended.err());
        assert!(started.elapsed() < Duration::from_secs(2), "{call}: {:?}", started.elapsed());
    }
    wait_until_idle(b.pid());
}

#[test]
fn streams_and_futures_are_refused_in_plain_words() {
    let bed = stocked();
    let _b = bed.node("b");
    for (call, ty) in [("tasks.swallow([1])", "stream<u8>"), ("tasks.later()", "future<string>")] {
        let there = format!("Node.run(b, {call})");
        for ended in [bed.eval([call]), bed.eval(["Node.connect(b)", &there])] {
            let err = ended.fails("UNSUPPORTED_TYPE");
            assert!(err.contains(&format!("the type `{ty}`, which cannot be passed yet")), "{err}");
            assert!(err.contains("use streams and futures inside a component"), "{err}");
        }
    }
    let shown = bed.gvm(["inspect", p2("tasks").to_str().unwrap()]).ok();
    assert!(shown.contains("swallow: func(data: stream<u8>) -> u64"), "{shown}");
}

/// Compiled code is found again without the module's file.
#[test]
fn are_compiled_once() {
    let bed = Bed::bare();
    let module = p2("command");
    let compiled = || {
        let folder = bed.home().join("compiled");
        let engines = std::fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_dir());
        let code = engines.flat_map(|engine| std::fs::read_dir(engine.path()).unwrap().flatten());
        let code = code.filter(|file| file.path().extension().is_some_and(|kind| kind == "cwasm"));
        code.map(|file| file.metadata().unwrap().modified().unwrap()).collect::<Vec<_>>()
    };
    bed.run([module.to_str().unwrap()]).ok();
    let first = compiled();
    assert_eq!(first.len(), 1);
    bed.run([module.to_str().unwrap()]).ok();
    assert_eq!(compiled(), first);
}

#[test]
fn a_command_of_wasi_0_3_runs() {
    let bed = Bed::new();
    let _b = bed.node("b");
    let command = p2("command");
    let path = command.to_str().unwrap();
    for place in [&[][..], &["--node", "b"]] {
        let run = |words: &[&str]| bed.run([place, &[path], words].concat());
        assert_eq!(run(&[]).ok(), "hello from WASI 0.3\n");
        assert_eq!(run(&["args", "one", "", "--x"]).ok(), "one,,--x\n");
        let ended = run(&["err"]);
        assert_eq!(
            (ended.status, ended.out().as_str(), ended.err().as_str()),
            (Some(0), "", "this is an error\n")
        );
        assert_eq!(run(&["fail"]).status, Some(1));
        assert_eq!(run(&["exit", "0"]).status, Some(0));
        assert_eq!(run(&["exit", "42"]).status, Some(42));
        run(&["panic"]).fails("TRAP");
        let err = bed.run([place, &["--max-output", "1MiB", path, "flood"]].concat()).fails("LIMIT_EXCEEDED");
        assert!(err.contains("1048576"), "{err}");
    }
    assert_eq!(bed.run(["--env", "A=1", path, "env"]).ok(), "A=1\n");
}

#[test]
fn a_command_of_wasi_0_3_streams_its_input() {
    let bed = Bed::new();
    let _b = bed.node("b");
    let command = p2("command");
    let path = command.to_str().unwrap();
    for place in [&[][..], &["--node", "b"]] {
        let mut running = bed.start_gvm([&["run"], place, &[path, "cat"]].concat());
        running.write(b"first ");
        running.wait_for_out("first ");
        running.write(b"second\n");
        assert_eq!(running.finish().ok(), "first second\n");
        let large: Vec<u8> = (0..3 << 20).map(|index: u32| (index % 251) as u8).collect();
        let mut running = bed.start_gvm([&["run"], place, &[path, "cat"]].concat());
        running.write(&large);
        let ended = running.finish();
        assert!(ended.status == Some(0) && ended.stdout == large, "{} bytes came back", ended.stdout.len());
    }
}

#[test]
fn wasi_0_3_has_the_same_grants() {
    let bed = Bed::bare();
    let (module, folder) = (p2("tasks"), bed.folder().join("granted"));
    let path = module.to_str().unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a"), "content").unwrap();
    bed.write("secret", "secret");
    let run = |options: &[&str], call: &str| bed.run([options, &["--invoke", call, path]].concat()).ok();

    assert_eq!(run(&[], r#"read-file("a")"#), "err(\"no folder is granted\")\n");
    let granted = format!("{}::/data", folder.display());
    let read_only = format!("{granted}::ro");
    assert_eq!(run(&["--dir", &granted], r#"read-file("a")"#), "ok(\"content\")\n");
    assert_eq!(run(&["--dir", &read_only], r#"read-file("a")"#), "ok(\"content\")\n");
    for outside in ["../secret", "/etc/passwd"] {
        let said = run(&["--dir", &granted], &format!("read-file({outside:?})"));
        assert!(said.starts_with("err(\"ErrorCode::"), "{outside}: {said}");
    }
    assert!(run(&["--dir", &read_only], r#"write-file("b", "x")"#).starts_with("err("));
    assert!(!folder.join("b").exists());
    assert_eq!(run(&["--dir", &granted], r#"write-file("b", "written")"#), "ok\n");
    assert_eq!(std::fs::read_to_string(folder.join("b")).unwrap(), "written");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream.unwrap().write_all(b"pong").unwrap();
        }
    });
    let (dial, address) = (format!("dial({port})"), format!("127.0.0.1:{port}"));
    assert_eq!(run(&["--allow-net", &address], &dial), "ok(\"pong\")\n");
    for granted in [&[][..], &["--allow-net", "127.0.0.1:9"]] {
        assert!(run(granted, &dial).contains("AccessDenied"), "{granted:?}");
        assert!(run(granted, "listen()").starts_with("err("), "{granted:?}");
    }
    let named = format!("localhost:{port}");
    assert!(run(&["--allow-net", &named], "look-up(\"localhost\")").starts_with("ok("));
    for (granted, name) in [
        (&[][..], "localhost"),
        (&["--allow-net", &address], "localhost"),
        (&["--allow-net", &named], "example.org"),
    ] {
        assert!(run(granted, &format!("look-up({name:?})")).contains("PermanentResolverFailure"), "{name}");
    }
    assert_eq!(run(&[], "random(1000)"), "1000\n");
}

/// Modules that import WASI 0.3 without async functions run too, and versions that nobody offers are named.
#[test]
fn imports_of_wasi_0_3() {
    let bed = Bed::bare();
    let clock = |import: &str| {
        format!(
            r#"(component
                (import "{import}" (instance $clock (export "get-resolution" (func (result u64)))))
                (core module $m (import "" "f" (func $f (result i64)))
                    (func (export "f") (result i64) (i64.gt_u (call $f) (i64.const 0)) i64.extend_i32_u))
                (core func $f (canon lower (func $clock "get-resolution")))
                (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
                (func (export "f") (result u64) (canon lift (core func $i "f"))))"#
        )
    };
    for version in ["0.3.0", "0.3.7"] {
        let file = bed.write("clock.wat", clock(&format!("wasi:clocks/monotonic-clock@{version}")));
        assert_eq!(bed.run(["--invoke", "f()", file.to_str().unwrap()]).ok(), "1\n");
    }
    for unknown in [
        "wasi:clocks/monotonic-clock@0.3.0-rc-2026-01-06",
        "wasi:clocks/wall-clock@0.3.0",
        "wasi:clocks/x@0.4.0",
    ] {
        let file = bed.write("clock.wat", clock(unknown));
        let err = bed.run(["--invoke", "f()", file.to_str().unwrap()]).fails("IMPORT_UNSATISFIED");
        assert!(err.contains(unknown), "{err}");
    }
    // The interface is offered, and has no such function.
    let other = clock("wasi:clocks/monotonic-clock@0.3.0").replace("get-resolution", "get-nothing");
    let file = bed.write("clock.wat", other);
    let err = bed.run(["--invoke", "f()", file.to_str().unwrap()]).fails("IMPORT_UNSATISFIED");
    assert!(err.contains("`get-nothing` of `wasi:clocks/monotonic-clock@0.3.0`"), "{err}");
}

/// An async function type may be lifted without the option `async`: its result then has one slot.
#[test]
fn async_functions_may_be_lifted_without_the_option() {
    let bed = Bed::bare();
    let text = r#"(component
        (core module $m (memory (export "memory") 1) (data (i32.const 8) "\10\00\00\00\02\00\00\00hi")
            (func (export "f") (result i32) (i32.const 8))
            (func (export "g") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
        (core instance $i (instantiate $m))
        (func (export "text") async (result string) (canon lift (core func $i "f") (memory (core memory $i "memory"))))
        (func (export "pair") async (result (tuple u32 u32)) (canon lift (core func $i "f") (memory (core memory $i "memory"))))
        (func (export "add") async (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "g"))))"#;
    let file = bed.write("sync.wat", text);
    for (call, expected) in [("text()", "\"hi\"\n"), ("pair()", "(16, 2)\n"), ("add(1, 2)", "3\n")] {
        // The second call finds the code that the first one compiled.
        for _ in 0..2 {
            assert_eq!(bed.run(["--invoke", call, file.to_str().unwrap()]).ok(), expected);
        }
    }
}

/// A guest with tasks that calls another one, or itself, on its own node and on another one, more than once in a row.
#[test]
fn call_each_other() {
    let bed = stocked();
    bed.upload("values", &p2("values"));
    let _b = bed.node_with("b", &["--grant", "nodes"]);
    let mut running = bed.start_gvm(["--name", "a", "--grant", "nodes"]);
    let deep = r#"tasks.relay("a", "tasks.relay(\"a\", \"tasks.add(1, 2)\")")"#;
    let calls = [
        r#"tasks.relay("a", "tasks.greet(\"x\")")"#,
        r#"tasks.relay("a", "values.echo-u8(7)")"#,
        r#"tasks.relay("b", "tasks.greet(\"y\")")"#,
        deep,
        r#"tasks.relay("a", "tasks.trap()")"#,
        r#"tasks.relay("nobody", "tasks.add(1, 2)")"#,
    ];
    running.write(format!("Node.connect(b)\n{}\n", calls.join("\n")).as_bytes());
    let ended = running.finish();
    let out = ended.out();
    let said: Vec<&str> = out.lines().skip(1).filter(|line| !line.is_empty()).collect();
    let expected = [
        r#"ok(some("\"hello x\""))"#,
        r#"ok(some("7"))"#,
        r#"ok(some("\"hello y\""))"#,
        r#"ok(some("ok(some(\"3\"))"))"#,
        r#"err("TRAP")"#,
        r#"err("NODE_NOT_CONNECTED")"#,
    ];
    assert_eq!(said, expected, "{}", ended.err());
}

/// Ordinary modules in the same node go on, whatever a component with tasks does.
#[test]
fn others_are_not_disturbed() {
    let bed = stocked();
    bed.upload("args", &p1("args"));
    bed.upload("values", &p2("values"));
    let mut running = bed.start_gvm::<&str>([]);
    running.write(b"tasks.sum(100)\nvalues.echo-u8(7)\ntasks.greet(\"x\")\nvalues.echo-string(\"y\")\n");
    let out = running.finish().ok();
    assert_eq!(out.lines().collect::<Vec<_>>(), ["4950", "7", "\"hello x\"", "\"y\""]);
    wait_until("gpmd answers", || bed.gpmd(["status"]).status == Some(0));
}
