//! Lost output and unreadable input: both are reported, and neither counts as success.
//!
//! In: programs whose streams are a full device, a closed descriptor, a pipe without a reader, a folder, or a
//! terminal that has closed. Out: their exit status and their messages. Must not know: how they detect it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::bed::{Bed, GPMD, GVM};
use crate::guests;
use crate::process::{Ended, Running};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// Returns the write end of a pipe without a reader.
fn unread() -> OwnedFd {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

/// Where the output of a command goes.
#[derive(Clone, Copy, Debug)]
enum To {
    Full,
    Closed,
    Unread,
}

/// Each destination with the exit status and the error code that a command ends with.
const ALL: [(To, i32, &str); 3] =
    [(To::Full, 1, "STORAGE_FULL"), (To::Closed, 1, "OUTPUT_LOST"), (To::Unread, 141, "")];

/// Runs the program with its standard output sent to `to`.
fn run_to(bed: &Bed, program: &str, words: &[&str], to: To) -> Ended {
    let mut command = match to {
        // A shell is needed here, because `Command` cannot start a program with a closed descriptor.
        To::Closed => {
            let mut shell = bed.command("sh");
            shell.args(["-c", "exec \"$0\" \"$@\" >&-", program]);
            shell
        }
        _ => bed.command(program),
    };
    command.args(words).stdin(Stdio::null()).stderr(Stdio::piped());
    match to {
        To::Full => command.stdout(full()),
        To::Closed => command.stdout(Stdio::null()),
        To::Unread => command.stdout(unread()),
    };
    let running = Running::start_as_is(&mut command);
    drop(command);
    running.finish()
}

#[track_caller]
fn check(bed: &Bed, program: &str, words: &[&str]) {
    for (to, status, code) in ALL {
        let ended = run_to(bed, program, words, to);
        let err = ended.err();
        assert_eq!(ended.status, Some(status), "{words:?} to {to:?}: {err}");
        let told = err
            .lines()
            .filter(|line| line.starts_with("STORAGE_FULL: ") || line.starts_with("OUTPUT_LOST: "));
        let told: Vec<&str> = told.collect();
        match code {
            "" => assert!(err.is_empty(), "{words:?} to {to:?} wrote to standard error: {err}"),
            code => assert!(
                matches!(told[..], [line] if line.starts_with(code) && line.contains("standard output")),
                "{words:?} to {to:?}: {err}"
            ),
        }
    }
}

#[test]
fn results_of_gvm() {
    let bed = Bed::stocked();
    bed.upload("args", &guests::p1("args"));
    let _node = bed.node("there");
    for words in [
        &["eval", "math.add(1, 2)"][..],
        &["eval", "--json", "math.add(1, 2)"],
        &["eval", "Node.discover()"],
        &["eval", "Module.list()"],
        &["eval", "Module.inspect(math)"],
        &["eval", "help"],
        &["eval", "values.echo-u8(7)"],
        &["eval", "Node.connect(there)"],
        &["run", "values.echo-u8(7)"],
        &["run", "--json", "values.echo-u8(7)"],
        &["run", "--node", "there", "values.echo-u8(7)"],
        &["run", "--json", "--node", "there", "values.echo-u8(7)"],
        &["run", "args"],
        &["run", "--node", "there", "args"],
        &["inspect", "math"],
        &["inspect", "--json", "math"],
        &["doctor"],
        &["doctor", "--json"],
        &["doctor", "there"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["eval", "--help"],
        &["--version"],
    ] {
        check(&bed, GVM, words);
    }
    for (place, (to, status, _)) in ALL.into_iter().enumerate() {
        let folder = format!("made-{place}");
        assert_eq!(run_to(&bed, GVM, &["new", &folder], to).status, Some(status));
        assert!(bed.folder().join(folder).join("README.md").exists());
    }
}

#[test]
fn results_of_gpmd() {
    let mut bed = Bed::stocked();
    bed.upload("args", &guests::p1("args"));
    let math = guests::math();
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["wasm", "list"],
        &["wasm", "list", "--json"],
        &["wasm", "show", "math"],
        &["wasm", "show", "math", "--json"],
        &["wasm", "get", "math", "--out", "-"],
        &["wasm", "get", "math", "--out", "copy.wasm"],
        &["wasm", "upload", "--name=math", "--version=1.0.0", "--file", text(&math)],
        &["wasm", "upload", "--json", "--name=math", "--version=1.0.0", "--file", text(&math)],
        &["wasm", "pin", "math", "1.0.0"],
        &["wasm", "pin", "--json", "math", "1.0.0"],
        // The daemon already runs, and `start` says so.
        &["start"],
        &["completions", "zsh"],
        &["man"],
        &["--help"],
        &["wasm", "--help"],
        &["--version"],
    ] {
        check(&bed, GPMD, words);
    }
    for (place, (to, status, _)) in ALL.into_iter().enumerate() {
        let version = format!("--version=2.0.{place}");
        bed.gpmd(["wasm", "upload", "--name=gone", &version, &format!("--file={}", math.display())]).ok();
        let ended = run_to(&bed, GPMD, &["wasm", "remove", "gone"], to);
        assert_eq!(ended.status, Some(status), "{}", ended.err());
    }
    // `kill` writes no output, so it has none to lose.
    bed.gpmd(["kill"]).ok();
    for (to, status, _) in ALL {
        bed.start_gpmd();
        assert_eq!(run_to(&bed, GPMD, &["kill"], to).status, Some(0));
        // The daemon runs although `start` could not print its message.
        assert_eq!(run_to(&bed, GPMD, &["start"], to).status, Some(status));
        bed.gpmd(["status"]).ok();
        bed.gpmd(["kill"]).ok();
    }
}

/// The first lost result ends a run, as an error does.
#[test]
fn nothing_runs_after_a_lost_result() {
    let bed = Bed::stocked();
    let said = |ended: &Ended| ended.err();
    for json in [&[][..], &["--json"]] {
        let statements = ["eval", "values.echo-u8(7)", "no-such.f()"];
        let ended = run_to(&bed, GVM, &[json, &statements].concat(), To::Full);
        assert_eq!(ended.status, Some(1));
        assert!(said(&ended).starts_with("STORAGE_FULL: ") && !said(&ended).contains("MODULE_NOT_FOUND"));
    }
    let script = bed.write("script", "values.echo-u8(7)\nno-such.f()\n");
    let mut command = bed.command(GVM);
    command.stdin(File::open(script).unwrap()).stdout(full()).stderr(Stdio::piped());
    let err = Running::start_as_is(&mut command).finish().fails("STORAGE_FULL");
    assert!(err.contains("in line 1 of the script") && !err.contains("MODULE_NOT_FOUND"), "{err}");
}

/// A node keeps serving when its events cannot be written; its exit status reports the loss.
#[test]
fn events_of_a_served_node() {
    let bed = Bed::stocked();
    for json in [&[][..], &["--json"]] {
        let mut command = bed.command(GVM);
        command.args(["serve", "--name", "served"]).args(json);
        command.stdin(Stdio::null()).stdout(full()).stderr(Stdio::piped());
        let served = Running::start_as_is(&mut command);
        crate::process::wait_until("the node is registered", || bed.nodes() == ["served"]);
        assert_eq!(bed.run(["--node", "served", "values.echo-u8(7)"]).ok(), "7\n");
        served.signal(Signal::TERM);
        served.end().fails("STORAGE_FULL");
    }
}

/// A run whose output is read to the end succeeds; a run whose reader closes the pipe early does not.
#[test]
fn a_reader_that_stops_early() {
    let bed = Bed::stocked();
    let status = |words: &str, reader: &str| {
        let script = format!("{{ \"$0\" {words}; echo status $? >&2; }} | {reader}");
        Running::start(bed.command("sh").args(["-c", &script, GVM])).finish()
    };
    let whole = status("eval 'values.echo-u8(7)'", "cat");
    assert_eq!((whole.out().as_str(), whole.err().as_str()), ("7\n", "status 0\n"));
    let cut = status("eval 'values.bytes(8388608)' 'no-such.f()'", "head -c 5");
    assert_eq!((cut.out().len(), cut.err().as_str()), (5, "status 141\n"));
}

/// When one stream is broken, the other still arrives, from a local run and from another node.
#[test]
fn the_other_stream_arrives() {
    let bed = Bed::stocked();
    let _node = bed.node("there");
    for program in [guests::p1("both"), guests::p2("both")] {
        for place in [&[][..], &["--node", "there"]] {
            let run = |stdout: Stdio, stderr: Stdio| {
                let mut command = bed.command(GVM);
                command.arg("run").args(place).arg(&program).stdin(Stdio::null());
                let running = Running::start_as_is(command.stdout(stdout).stderr(stderr));
                drop(command);
                running.finish()
            };
            let ended = run(full().into(), Stdio::piped());
            let err = ended.fails("STORAGE_FULL");
            assert!(err.contains("stderr 1\n") && err.contains("stderr 200\n"), "{err}");
            // Preview 1 reports error 51, NOSPC; the C library of preview 2 reports only 29, IO.
            let errno = if text(&program).contains("wasip1") { 51 } else { 29 };
            assert!(err.contains(&format!("stdout: Some({errno})")), "{err}");

            let ended = run(unread().into(), Stdio::piped());
            assert_eq!(ended.status, Some(141), "{}", ended.err());
            assert!(ended.err().contains("stderr 200\n"), "{}", ended.err());

            let ended = run(Stdio::piped(), full().into());
            assert_eq!(ended.status, Some(1));
            assert!(
                ended.out().contains("stdout 1\n") && ended.out().contains("stdout 200\n"),
                "{}",
                ended.out()
            );
        }
    }
}

/// A Python script that runs a command with a terminal as its input whose other end is closed.
const HUNG_UP: &str = "import os, sys
ours, theirs = os.openpty()
os.close(theirs)
os.dup2(ours, 0)
os.execv(sys.argv[1], sys.argv[1:])";

/// Returns commands whose standard input cannot be read, each with the error number of WASI preview 1.
fn unreadable(bed: &Bed, program: &str) -> [(&'static str, Command, i32); 2] {
    let mut folder = bed.command(program);
    folder.stdin(File::open("/").unwrap());
    let mut terminal = bed.command("python3");
    terminal.args(["-c", HUNG_UP, program]).stdin(Stdio::null());
    let mut all = [("a folder", folder, 31), ("a terminal that has gone", terminal, 29)];
    for (_, command, _) in &mut all {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    all
}

#[test]
fn input_that_cannot_be_read() {
    let bed = Bed::stocked();
    let _node = bed.node("there");
    let errno = guests::wat("read-errno");
    for place in [&[][..], &["--node", "there"]] {
        for (what, mut command, number) in unreadable(&bed, GVM) {
            command.arg("run").args(place).args(["--invoke", "errno()", text(&errno)]);
            let ended = Running::start_as_is(&mut command).finish();
            assert_eq!(ended.ok(), format!("{number}\n"), "{what} {place:?}");
        }
        // The program sees an error and not the end of its input. Here the program panics on the error.
        for program in [guests::p1("cat"), guests::p2("cat")] {
            for (what, mut command, _) in unreadable(&bed, GVM) {
                command.arg("run").args(place).arg(&program);
                let ended = Running::start_as_is(&mut command).finish();
                let err = ended.fails("TRAP");
                assert!(err.contains("standard input"), "{what} {place:?} {}: {err}", program.display());
            }
        }
        // The error affects only standard input.
        for program in [guests::p1("both"), guests::p2("both")] {
            for (_, mut command, _) in unreadable(&bed, GVM) {
                command.arg("run").args(place).args([text(&program), "read"]);
                let ended = Running::start_as_is(&mut command).finish();
                let (out, err) = (ended.out(), ended.err());
                assert!(out.contains("stdout 200\n") && err.contains("stdin: Err"), "{out}{err}");
            }
        }
        // A closed descriptor is an error too, EBADF, and not the end of the input.
        let mut shell = bed.command("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" <&-", GVM, "run"]).args(place);
        let ended = Running::start(shell.args(["--invoke", "errno()", text(&errno)])).finish();
        assert_eq!(ended.ok(), "8\n");
    }
}

#[test]
fn scripts_and_modules_that_cannot_be_read() {
    let bed = Bed::stocked();
    let [(_, mut script, _), _] = unreadable(&bed, GVM);
    Running::start_as_is(&mut script).finish().fails("INTERNAL");
    for (what, mut command, _) in unreadable(&bed, GPMD) {
        command.args(["wasm", "upload", "--name=cut", "--version=1.0.0", "--file=-"]);
        let err = Running::start_as_is(&mut command).finish().fails("MODULE_INVALID");
        assert!(err.contains("cannot read standard input"), "{what}: {err}");
    }
    let closed = |program: &str, words: &str| {
        let script = format!("exec \"$0\" {words} <&-");
        Running::start(bed.command("sh").args(["-c", &script, program])).finish()
    };
    closed(GVM, "").fails("INTERNAL");
    closed(GPMD, "wasm upload --name=cut --version=1.0.0 --file=-").fails("MODULE_INVALID");
}
