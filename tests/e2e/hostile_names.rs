//! Every command that shows names from a module escapes them.
//!
//! In: modules whose names contain control characters, line breaks and characters that reorder text. Out:
//! what each command writes, in a pipe and on a terminal, without any active character. Must not know: how
//! names are escaped.

use std::path::PathBuf;
use std::process::Command;

use crate::bed::{Bed, GPMD, GVM};
use crate::process::Running;

/// A core module, because the component format checks the names in interfaces. One export traps, and its
/// function's name contains a forged line. The names of the other exports would change the window title,
/// start a new line, or reorder and hide text.
const RUNS: &str = r#"(module
  (func (@name "\0aTRAP: forged\1b[2K") (export "boom") unreachable)
  (func (export "\1b]0;pwned\07"))
  (func (export "\c2\9b31mred"))
  (func (export "abc\e2\80\aedef\e2\80\8b"))
  (func (export "one\0aforged: func()\1b[31m")))"#;

const WANTS: &str = r#"(module
  (import "env" "wanted\0aforged\1b[2K\e2\80\ae" (func))
  (func (export "_start"))
  (func (export "one\0aforged: func()\1b[31m")))"#;

#[test]
fn nothing_acts_whoever_shows_it() {
    let bed = Bed::new();
    let (runs, wants) = (bed.write("runs.wat", RUNS), bed.write("wants.wat", WANTS));
    bed.upload("n", &runs);
    bed.upload("w", &wants);
    let _there = bed.node("there");
    let (runs, wants) = (&format!("--file={}", runs.display()), wants.to_str().unwrap());
    let again = ["wasm", "upload", "--name=n", "--version=2.0.0", runs];
    let commands: &[(&str, &[&str])] = &[
        (GVM, &["inspect", wants]),
        (GVM, &["inspect", "--json", wants]),
        (GVM, &["inspect", "n"]),
        (GVM, &["run", wants]),
        (GVM, &["run", "--json", wants]),
        (GVM, &["run", "--invoke", "boom()", "./runs.wat"]),
        (GVM, &["run", "n.nowhere()"]),
        (GVM, &["run", "n"]),
        (GVM, &["eval", "help n"]),
        (GVM, &["eval", "Module.inspect(n)"]),
        (GVM, &["eval", "--json", "Module.inspect(w)"]),
        (GVM, &["eval", "--json", "Module.list()"]),
        (GVM, &["eval", "n.boom()"]),
        (GVM, &["eval", "--json", "n.boom()"]),
        (GVM, &["eval", "n.bom()"]),
        (GVM, &["eval", "w"]),
        (GVM, &["eval", "Node.connect(there)", "Node.run(there, n.boom())"]),
        (GVM, &["eval", "Node.connect(there)", "Node.run(there, n.bom())"]),
        (GVM, &["eval", "Node.connect(there)", "Node.run(there, w)"]),
        (GPMD, &again),
        (GPMD, &["wasm", "show", "n"]),
        (GPMD, &["wasm", "show", "w"]),
        (GPMD, &["wasm", "show", "--json", "w"]),
        (GPMD, &["wasm", "list"]),
        (GPMD, &["wasm", "list", "--json"]),
        (GPMD, &["wasm", "upload", "--name=w", "--version=3.0.0", &format!("--file={wants}")]),
    ];
    for (program, args) in commands {
        let ended = Running::start(bed.command(program).args(*args)).finish();
        inert(args, &[ended.stdout, ended.stderr].concat());
        inert(args, &on_a_terminal(&bed, program, args));
    }
}

/// Runs the command with its streams connected to a terminal and returns what it writes.
fn on_a_terminal(bed: &Bed, program: &str, args: &[&str]) -> Vec<u8> {
    let quoted: Vec<String> = [&[program], args].concat().iter().map(|arg| format!("'{arg}'")).collect();
    let mut script: Command = bed.command("script");
    script.env("NO_COLOR", "1").args(["-qec", &quoted.join(" "), "/dev/null"]);
    let ended = Running::start(&mut script).finish();
    ended.stdout
}

#[track_caller]
fn inert(args: &[&str], written: &[u8]) {
    let text = String::from_utf8(written.to_vec()).unwrap_or_else(|_| panic!("{args:?}: {written:?}"));
    // The program itself writes these sequences, to draw progress on a terminal.
    let text = text.replace("\r\x1b[2K", "").replace("\r\x1b[K", "").replace("\r\n", "\n");
    let acts = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || matches!(c, '\u{200b}' | '\u{202e}');
    assert!(!text.contains(acts), "{args:?}: {text:?}");
    for line in text.lines() {
        let line = line.trim();
        assert!(!line.starts_with("TRAP: forged") && !line.starts_with("forged"), "{args:?}: {text}");
    }
}

/// Hostile names are shown escaped, not omitted.
#[test]
fn what_is_shown_can_be_told_apart() {
    let bed = Bed::bare();
    let file: PathBuf = bed.write("runs.wat", RUNS);
    let shown = bed.gvm(["inspect", file.to_str().unwrap()]).ok();
    for name in [
        "\\u{1b}]0;pwned\\u{7}: func()",
        "\\u{9b}31mred",
        "abc\\u{202e}def\\u{200b}",
        "one\\nforged: func()\\u{1b}[31m",
    ] {
        assert!(shown.contains(name), "{name} in {shown}");
    }
    let err = bed.run(["--invoke", "boom()", file.to_str().unwrap()]).fails("TRAP");
    assert!(err.contains("at \\nTRAP: forged\\u{1b}[2K"), "{err}");
}
