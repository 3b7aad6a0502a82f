//! Exit statuses. The same event gives the same status wherever it happens, and an interrupted run never
//! reports success. The tests follow the table in `docs/exit-status.md`.
//!
//! In: events, and the ways to make a call. Out: the exit status of each process, and the error code that it
//! printed. Must not know: how a status is chosen.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;

use crate::bed::{Bed, GPMD, GVM};
use crate::guests;
use crate::process::{Ended, Running, wait_until};
use crate::terminal::Terminal;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// One call, its error code, and the exit statuses of `eval`, a script, `run` and `run --invoke`.
struct Event {
    options: &'static [&'static str],
    /// The call without its module: `leave(0)`.
    call: &'static str,
    code: &'static str,
    /// The exit status of `eval` and of a script.
    statements: i32,
    /// The exit status of `gvm run 'exits.CALL'` and `gvm run --invoke CALL exits.wat`.
    run: i32,
}

const EVENTS: &[Event] = &[
    Event { options: &[], call: "two()", code: "", statements: 0, run: 0 },
    Event { options: &[], call: "leave(0)", code: "GUEST_EXIT", statements: 1, run: 1 },
    Event { options: &[], call: "leave(3)", code: "GUEST_EXIT", statements: 1, run: 3 },
    Event { options: &[], call: "leave(200)", code: "GUEST_EXIT", statements: 1, run: 200 },
    Event { options: &[], call: "leave(256)", code: "GUEST_EXIT", statements: 1, run: 1 },
    Event { options: &[], call: "leave(257)", code: "GUEST_EXIT", statements: 1, run: 1 },
    Event { options: &[], call: "leave(-1)", code: "GUEST_EXIT", statements: 1, run: 255 },
    Event { options: &[], call: "leave(-256)", code: "GUEST_EXIT", statements: 1, run: 1 },
    Event { options: &[], call: "trap()", code: "TRAP", statements: 1, run: 1 },
    Event { options: &["--timeout=300ms"], call: "spin()", code: "TIMEOUT", statements: 1, run: 1 },
    Event { options: &["--fuel=10000"], call: "spin()", code: "LIMIT_EXCEEDED", statements: 1, run: 1 },
    Event { options: &[], call: "grow()", code: "LIMIT_EXCEEDED", statements: 1, run: 1 },
    Event { options: &[], call: "missing()", code: "FUNCTION_NOT_FOUND", statements: 1, run: 1 },
    Event { options: &[], call: "leave(\"x\")", code: "BAD_ARGUMENTS", statements: 1, run: 1 },
    // A syntax error in a statement gives status 1. In an argument of `run` it is wrong usage: status 2.
    Event { options: &[], call: "leave(1", code: "SYNTAX", statements: 1, run: 2 },
];

#[track_caller]
fn left(ended: &Ended, what: &str, status: i32, code: &str) {
    let err = ended.err();
    assert_eq!(ended.status, Some(status), "{what}\nstdout: {}\nstderr: {err}", ended.out());
    let coded = |line: &str| line.starts_with(&format!("{code}: "));
    match code {
        "" => assert!(err.is_empty(), "{what}: {err}"),
        _ => assert!(err.lines().any(coded), "{what} does not report {code}: {err}"),
    }
}

fn bed() -> Bed {
    let bed = Bed::new();
    bed.upload("exits", &guests::wat("exits"));
    bed
}

/// Runs `gvm` with these options and a script on standard input.
fn script(bed: &Bed, options: &[&str], lines: &str) -> Ended {
    let mut running = Running::start(bed.command(GVM).args(options));
    running.write(lines.as_bytes());
    running.finish()
}

#[test]
fn of_calls() {
    let bed = bed();
    let _there = bed.node("there");
    let file = guests::wat("exits");
    let terminal =
        Terminal::open(GVM, &["--name=prompt"], &[("GHOST_HOME", text(&bed.home()))], bed.folder());
    terminal.wait_for_text("(prompt) > ");
    for Event { options, call, code, statements, run } in EVENTS {
        let statement = format!("exits.{call}");
        let then = "exits.two()";
        let after = |ended: &Ended| ended.out().ends_with("2\n") == code.is_empty();

        let ended = bed.eval([options, &[statement.as_str(), then][..]].concat());
        left(&ended, &format!("eval {statement}"), *statements, code);
        assert!(after(&ended), "eval {statement}: {}", ended.out());

        let ended = bed.eval([options, &["--json", &statement, then][..]].concat());
        assert_eq!(ended.status, Some(*statements), "eval --json {statement}");

        let ended = script(&bed, options, &format!("{statement}\n{then}\n"));
        left(&ended, &format!("script {statement}"), *statements, code);
        assert!(after(&ended), "script {statement}: {}", ended.out());

        let ended = bed.run([options, &[statement.as_str()][..]].concat());
        left(&ended, &format!("run {statement}"), *run, code);
        let ended = bed.run([options, &["--json", &statement][..]].concat());
        assert_eq!(ended.status, Some(*run), "run --json {statement}");
        let ended = bed.run([options, &["--node=there", &statement][..]].concat());
        left(&ended, &format!("run --node {statement}"), *run, code);
        let ended = bed.run([options, &["--invoke", call, text(&file)][..]].concat());
        left(&ended, &format!("run --invoke {call}"), *run, code);

        // The same call on another node, through statements.
        if *code != "SYNTAX" {
            let there = format!("Node.run(there, {statement})");
            let ended = bed.eval([options, &["Node.connect(there)", &there][..]].concat());
            left(&ended, &format!("eval {there}"), *statements, code);
        }

        // The prompt prints the error and continues. Its options are fixed when it starts, so calls that need
        // other options are skipped here.
        if options.is_empty() && !code.is_empty() {
            let before = terminal.text().matches(&format!("{code}: ")).count();
            terminal.enter(&statement);
            wait_until("the prompt prints the error", || {
                terminal.text().matches(&format!("{code}: ")).count() > before
            });
        }
    }
    terminal.enter("exit");
    assert_eq!(terminal.end(), 0, "failed calls at a prompt must not change its exit status");
}

/// Only `gvm run` exits with the status of the program.
#[test]
fn of_programs() {
    let bed = bed();
    bed.upload("leave", &guests::wat("leave"));
    let _there = bed.node("there");
    let file = guests::wat("exits");
    for place in [&[][..], &["--node=there"]] {
        let run = |words: &[&str]| bed.run([place, words].concat());
        for target in ["exits", text(&file)] {
            assert_eq!(run(&[target]).status, Some(0));
            let statuses = [
                ("0", 0),
                ("1", 1),
                ("3", 3),
                ("126", 126),
                ("255", 255),
                ("256", 1),
                ("257", 1),
                ("-1", 255),
                ("-256", 1),
            ];
            for (asked, status) in statuses {
                // gvm prints no error, because the program reports its own.
                left(&run(&[target, asked]), &format!("run {target} {asked}"), status, "");
                assert_eq!(run(&["--json", target, asked]).status, Some(status));
            }
        }
    }
    assert_eq!(bed.eval(["exits", "exits.two()"]).ok(), "2\n");
    left(&bed.eval(["leave", "exits.two()"]), "eval leave", 1, "GUEST_EXIT");
    left(&script(&bed, &[], "leave\nexits.two()\n"), "script leave", 1, "GUEST_EXIT");
    assert_eq!(bed.run(["leave"]).status, Some(4));
}

#[test]
fn of_signals() {
    let bed = bed();
    let _there = bed.node("there");
    let file = guests::wat("exits");
    let ways: [(&str, &[&str]); 5] = [
        ("eval", &["eval", "exits.spin()", "exits.two()"]),
        ("script", &[]),
        ("run", &["run", "exits.spin()"]),
        ("run --node", &["run", "--node=there", "exits.spin()"]),
        ("run --invoke", &["run", "--invoke", "spin()", text(&file)]),
    ];
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        for (way, words) in ways {
            let mut running = bed.start_gvm(words);
            if words.is_empty() {
                running.write(b"exits.spin()\nexits.two()\n");
            }
            // The call is running once the process that executes it uses CPU time.
            let busy = if way == "run --node" { _there.pid() } else { running.pid() };
            let begun = crate::process::cpu_time(busy);
            wait_until("the call runs", || {
                crate::process::cpu_time(busy).saturating_sub(begun) > std::time::Duration::from_millis(400)
            });
            running.signal(signal);
            let ended = running.finish();
            left(&ended, &format!("{way} {signal:?}"), status, "CANCELLED");
            assert!(!ended.out().contains('2'), "{way}: {}", ended.out());
        }
    }
}

#[test]
fn of_a_node_that_is_lost() {
    let bed = bed();
    let ways: [(&str, &[&str]); 3] = [
        ("run", &["run", "--node=there", "exits.spin()"]),
        ("eval", &["eval", "Node.connect(there)", "Node.run(there, exits.spin())", "exits.two()"]),
        ("script", &[]),
    ];
    for (way, words) in ways {
        let there = bed.node("there");
        let mut running = bed.start_gvm(words);
        if words.is_empty() {
            running.write(b"Node.connect(there)\nNode.run(there, exits.spin())\nexits.two()\n");
        }
        let begun = crate::process::cpu_time(there.pid());
        wait_until("the call runs", || {
            crate::process::cpu_time(there.pid()).saturating_sub(begun)
                > std::time::Duration::from_millis(200)
        });
        there.kill();
        left(&running.finish(), way, 1, "NODE_DOWN");
        wait_until("its name is free", || bed.nodes().iter().all(|name| name != "there"));
    }
}

#[test]
fn of_streams() {
    let bed = bed();
    let script = bed.write("script", "exits.two()\n");
    let ways: [(&str, &str); 6] = [
        (GVM, "eval 'exits.two()'"),
        (GVM, "run 'exits.two()'"),
        (GVM, "inspect exits"),
        (GVM, "< script"),
        (GPMD, "status"),
        (GPMD, "wasm list"),
    ];
    assert!(script.exists());
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for (program, words) in ways {
        let shell = |redirect: &str| {
            let mut shell = bed.command("sh");
            shell.args(["-c", &format!("exec \"$0\" {words} {redirect}"), program]);
            shell.stdin(Stdio::null()).stderr(Stdio::piped());
            shell
        };
        let ended = Running::start_as_is(shell("").stdout(full())).finish();
        left(&ended, &format!("{words} > /dev/full"), 1, "STORAGE_FULL");
        let ended = Running::start_as_is(shell(">&-").stdout(Stdio::null())).finish();
        left(&ended, &format!("{words} >&-"), 1, "OUTPUT_LOST");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = Running::start_as_is(shell("").stdout(writer)).finish();
        left(&ended, &format!("{words} into a pipe that nobody reads"), 141, "");
        // A standard error that cannot be written does not change the status.
        for redirect in ["2>&-", "2>/dev/full"] {
            let ended = Running::start_as_is(shell(redirect).stdout(Stdio::piped())).finish();
            assert_eq!(ended.status, Some(0), "{words} {redirect}");
        }
    }
    let closed = |words: &str| {
        Running::start(bed.command("sh").args(["-c", &format!("exec \"$0\" {words} <&-"), GVM])).finish()
    };
    assert_eq!(closed("eval 'exits.two()'").ok(), "2\n");
    assert_eq!(closed("run 'exits.two()'").ok(), "2\n");
    left(&closed(""), "a script on a closed standard input", 1, "INTERNAL");
}

#[test]
fn of_command_lines_and_daemons() {
    let mut bed = bed();
    for (program, words, status, code) in [
        (GVM, &["--help"][..], 0, ""),
        (GVM, &["--version"], 0, ""),
        (GPMD, &["--help"], 0, ""),
        (GPMD, &["--version"], 0, ""),
        (GPMD, &["status"], 0, ""),
        (GPMD, &["start"], 0, ""),
        (GPMD, &["wasm", "show", "missing"], 1, "MODULE_NOT_FOUND"),
        (GPMD, &["wasm", "remove", "missing"], 1, "MODULE_NOT_FOUND"),
        (GVM, &["inspect", "missing"], 1, "MODULE_NOT_FOUND"),
        (GVM, &["run", "missing.f()"], 1, "MODULE_NOT_FOUND"),
        (GVM, &["eval", "Node.connect(missing)"], 1, "NODE_NOT_FOUND"),
        (GVM, &["eval", "Node.run(missing, exits.two())"], 1, "NODE_NOT_CONNECTED"),
        (GVM, &["run", "--node=missing", "exits.two()"], 1, "NODE_NOT_FOUND"),
        (GVM, &["--name", "Not A Name", "eval", "exits.two()"], 2, "SYNTAX"),
        (GVM, &["run", "--node", "Not A Name", "exits.two()"], 2, "SYNTAX"),
        (GVM, &["run", "--timeout", "soon", "exits.two()"], 2, "SYNTAX"),
        (GPMD, &["wasm", "upload", "--name=Not A Name", "--version=1.0.0", "--file=-"], 2, "SYNTAX"),
        (GPMD, &["wasm", "upload", "--name=a", "--version=one", "--file=-"], 2, "SYNTAX"),
        (GPMD, &["wasm", "show", "exits@one"], 2, "SYNTAX"),
        (GPMD, &["wasm", "pin", "exits@one"], 2, "SYNTAX"),
        (GPMD, &["--gpmd", "no address at all", "status"], 2, "SYNTAX"),
    ] {
        let ended = Running::start(bed.command(program).args(words)).finish();
        left(&ended, &format!("{words:?}"), status, code);
    }
    // Usage errors that clap reports itself.
    for (program, words) in [
        (GVM, &["--no-such"][..]),
        (GVM, &["run"]),
        (GVM, &["eval"]),
        (GVM, &["no-such-command"]),
        (GPMD, &[]),
        (GPMD, &["--no-such"]),
        (GPMD, &["wasm"]),
        (GPMD, &["wasm", "upload"]),
        (GPMD, &["--port", "many", "status"]),
    ] {
        let ended = Running::start(bed.command(program).args(words)).finish();
        assert_eq!((ended.status, ended.out().as_str()), (Some(2), ""), "{words:?}: {}", ended.err());
    }
    bed.gpmd(["kill"]).ok();
    for (program, words) in [
        (GPMD, &["kill"][..]),
        (GPMD, &["status"]),
        (GPMD, &["wasm", "remove", "exits"]),
        (GVM, &["eval", "exits.two()"]),
        (GVM, &["serve"]),
        (GVM, &[]),
        (GVM, &["run", "--node=there", "exits.two()"]),
    ] {
        let ended = Running::start(bed.command(program).args(words)).finish();
        left(&ended, &format!("{words:?} without gpmd"), 1, "GPMD_NOT_RUNNING");
    }
    // Commands that do not need gpmd work without it.
    assert_eq!(bed.run(["exits.two()"]).ok(), "2\n");
    bed.gpmd(["wasm", "list"]).ok();
    bed.start_gpmd();
}
