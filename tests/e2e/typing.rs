//! How input is handled: pastes, history, suspending, answers to questions, simple terminals, terminals that
//! close, and scripts.
//!
//! In: keys, and standard input of other kinds. Out: screens, files, how nodes end. Must not know: how lines
//! are read.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::bed::{Bed, GVM};
use crate::guests;
use crate::process::{Running, wait_for, wait_until};
use crate::terminal::Terminal;

const TAB: &str = "\t";
const UP: &str = "\x1b[A";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";

fn started(bed: &Bed, program: &str, args: &[&str], env: &[(&str, &str)]) -> Terminal {
    let home = bed.home();
    let env = [&[("GHOST_HOME", home.to_str().unwrap())], env].concat();
    Terminal::sized((24, 80), program, args, &env, bed.folder())
}

fn open(bed: &Bed, options: &[&str]) -> Terminal {
    let terminal = started(bed, GVM, &[&["--name", "here"], options].concat(), &[]);
    wait_for_line(&terminal, "");
    terminal
}

/// Waits until the cursor's line shows the prompt and this text.
#[track_caller]
fn wait_for_line(terminal: &Terminal, wanted: &str) {
    terminal.wait_for_prompt(None, |text| text == format!("(here) > {wanted}").trim_end());
}

#[track_caller]
fn wait_for_row(terminal: &Terminal, wanted: &str) {
    terminal.wait(&format!("the row {wanted:?}"), |screen| {
        screen.contents().lines().any(|row| row == wanted).then_some(())
    });
}

#[test]
fn every_line_of_a_paste_is_a_statement() {
    let bed = Bed::stocked();
    let terminal = open(&bed, &[]);
    terminal.press("\x1b[200~math.add(1,2)\rmath.add(\r  20, // and\r  22\r)\r\x1b[201~\r");
    wait_for_row(&terminal, "3");
    wait_for_row(&terminal, "42");
    // An error ends the paste; the message shows the statement that failed.
    terminal.press("\x1b[200~math.add(1, x)\rmath.add(50,50)\x1b[201~\r");
    wait_for_row(&terminal, "  math.add(1, x)");
    terminal.enter("math.add(4,4)");
    wait_for_row(&terminal, "8");
    assert!(!terminal.lines().contains(&"100".to_owned()), "{}", terminal.text());
}

#[test]
fn keys_behind_the_end_of_a_line_are_kept() {
    let bed = Bed::stocked();
    let terminal = open(&bed, &[]);
    terminal.press("half\x03math.add(20,22)\rmath.add(1,");
    wait_for_row(&terminal, "42");
    terminal.wait_for_text("> math.add(1,p1: s32");
    terminal.press("1)\r");
    wait_for_row(&terminal, "2");
}

#[test]
fn the_history_outlives_its_node() {
    let bed = Bed::stocked();
    let history = bed.home().join("history");
    // A history file with invalid UTF-8 from another program is repaired.
    fs::write(&history, b"math.add(40,2)\n\xff\n").unwrap();
    let terminal = open(&bed, &[]);
    terminal.press(&format!("{UP}{UP}\r"));
    wait_for_row(&terminal, "42");
    terminal.enter(" math.add(7,70)");
    wait_for_row(&terminal, "77");
    terminal.enter("math.add(300,3)");
    wait_for_row(&terminal, "303");
    // The file is written while the node runs, for other nodes of the home and in case the node is killed.
    let kept = fs::read_to_string(&history).unwrap();
    assert!(kept.ends_with("math.add(40,2)\nmath.add(300,3)\n"), "{kept}");
    terminal.press(CTRL_D);
    terminal.wait_for_text("Goodbye :(");
    // The node still works when the history file cannot be read.
    fs::remove_file(&history).unwrap();
    fs::create_dir(&history).unwrap();
    let terminal = started(&bed, GVM, &["--name", "here"], &[]);
    terminal.wait_for_text("cannot use the history");
    wait_for_line(&terminal, "");
    terminal.enter("math.add(5,5)");
    wait_for_row(&terminal, "10");
}

#[test]
fn a_node_is_suspended_and_goes_on() {
    let bed = Bed::stocked();
    let shell = started(&bed, "bash", &["--norc", "-i"], &[("PS1", "$: ")]);
    shell.wait_for_prompt(None, |text| text == "$:");
    shell.enter(&format!("{GVM} --name here"));
    wait_for_line(&shell, "");
    shell.press("math.add(20,");
    shell.wait_for_text("(here) > math.add(20,");
    shell.press(CTRL_Z);
    shell.wait_for_text("Stopped");
    shell.wait_for_prompt(None, |text| text == "$:");
    shell.enter("fg");
    // The typed text is still there.
    shell.wait("the line again", |screen| {
        (screen.contents().matches("(here) > math.add(20,").count() == 2).then_some(())
    });
    shell.press("22)\r");
    wait_for_row(&shell, "42");
    shell.enter("exit");
    shell.wait_for_text("Goodbye :(");
}

#[test]
fn what_is_typed_comes_back_behind_an_answer() {
    let bed = Bed::stocked();
    let terminal = open(&bed, &["--accept", "ask"]);
    terminal.press("math.add(20,");
    terminal.wait_for_text("math.add(20,p1: s32");
    let one = bed.start_gvm(["eval", "--name", "one", "Node.connect(here)"]);
    terminal.wait_for_text("one wants to connect. Allow? [y/N]");
    let two = bed.start_gvm(["eval", "--name", "two", "Node.connect(here)"]);
    wait_until("both wait", || two.err().contains("waiting for the user of here to accept"));
    terminal.press(CTRL_C);
    wait_for_line(&terminal, "");
    terminal.press("y\r");
    one.finish().ok();
    terminal.wait_for_text("two wants to connect. Allow? [y/N]");
    terminal.press("no\r");
    two.finish().fails("CONNECTION_DENIED");
    terminal.wait("the line again, after the answer", |screen| {
        let shown = screen.contents();
        let denied = shown.find("[two was denied]")?;
        (shown.rfind("(here) > math.add(20,p1: s32")? > denied).then_some(())
    });
    terminal.press("22)\r");
    wait_for_row(&terminal, "42");
}

#[test]
fn questions_and_events_are_shown_while_a_call_runs() {
    let bed = Bed::stocked();
    bed.upload("spin", &guests::wat("spin"));
    let terminal = open(&bed, &["--accept", "ask"]);
    terminal.press("spin.spin()\r");
    let asking = bed.start_gvm(["eval", "--name", "guest", "Node.connect(here)"]);
    terminal.wait_for_text("spin.spin()\nguest wants to connect. Allow? [y/N]");
    terminal.press(CTRL_C);
    terminal.wait_for_text("CANCELLED");
    wait_for_line(&terminal, "");
    terminal.press("y\r");
    asking.finish().ok();
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let bed = Bed::stocked();
    // `cat -v` makes escape sequences visible.
    let command = format!("{GVM} --name here 2>&1 | cat -v");
    for env in [&[("TERM", "dumb")][..], &[]] {
        let terminal = started(&bed, "bash", &["--norc", "-c", &command], env);
        terminal.wait_for_text("GVM has been created here");
        terminal.enter("math.add(20,22)");
        wait_for_row(&terminal, "42");
        terminal.enter("math.add(1, x)");
        terminal.wait_for_text("BAD_ARGUMENTS");
        // The end of the value. At a full terminal the value would be shortened.
        terminal.enter("values.bytes(2000)");
        terminal.wait_for_text("98, 98, 98]");
        terminal.press(CTRL_D);
        terminal.wait_for_text("Goodbye :(");
        assert!(!terminal.text().contains("^["), "{}", terminal.text());
    }
    let terminal = started(&bed, GVM, &["--name", "here"], &[("TERM", "dumb")]);
    wait_for_line(&terminal, "");
    bed.eval(["--name", "guest", "Node.connect(here)"]).ok();
    terminal.wait_for_text("[guest is gone: shut down]");
    wait_for_line(&terminal, "");
    terminal.enter("math.add(1, x)");
    terminal.wait_for_text("BAD_ARGUMENTS");
    assert!(!terminal.is_coloured());
}

#[test]
fn completion_goes_into_values_versions_and_interfaces() {
    let bed = Bed::stocked();
    bed.upload(
        "odd",
        &bed.write("odd.wat", r#"(module (func (export "a b") (param i32)) (func (export "\e2\80\aea")))"#),
    );
    let terminal = open(&bed, &[]);
    let completed = |typed: &str, wanted: &str| {
        terminal.press(&format!("{typed}{TAB}"));
        terminal.wait_for_prompt(None, |row| row.contains(wanted));
        terminal.press(CTRL_C);
        wait_for_line(&terminal, "");
    };
    completed("math@", "> math@1.0.0");
    completed("values.\"test:values/r", "> values.\"test:values/right@1.0.0\".");
    completed("values.left.on", "> values.left.only-left()");
    completed("valeus", "> values");
    completed("odd.a", "> odd.\"a b\"(");
    completed("values.echo-flags({wr", "> values.echo-flags({write");
    completed("values.echo-record({na", "> values.echo-record({name: ");
    completed("values.echo-variant(line(({x: 1, y: 2}, {x", "{x: ");
    completed("values.echo-tree({branches: [grown(ok([some(({rights: {ru", "{rights: {run");
    completed("help Node.disconn", "> help Node.disconnect");
}

#[test]
fn a_menu_without_colour_keeps_its_letters() {
    let bed = Bed::stocked();
    let terminal = started(&bed, GVM, &["--name", "here"], &[("NO_COLOR", "1")]);
    wait_for_line(&terminal, "");
    terminal.press(&format!("values.echo-s{TAB}"));
    terminal.wait_for_text("(v: string) -> string");
    terminal.press(TAB);
    terminal.wait("the chosen candidate", |screen| {
        let shown = screen.contents();
        let chosen = shown.lines().find(|row| row.starts_with(">echo-s"))?;
        (chosen.contains("(v: s") && !shown.contains("ECHO")).then_some(())
    });
    terminal.press(CTRL_C);
    wait_for_line(&terminal, "");
    terminal.press(&format!("qqqq{TAB}"));
    terminal.wait_for_text("no completions");
}

#[test]
fn a_wrong_argument_is_pointed_at_in_a_narrow_terminal() {
    let bed = Bed::stocked();
    let home = bed.home();
    let env = [("GHOST_HOME", home.to_str().unwrap())];
    let terminal = Terminal::sized((24, 40), GVM, &["--name", "here"], &env, bed.folder());
    wait_for_line(&terminal, "");
    terminal.enter("values.echo-many(1, \"世界世界世界世界世界\", wrong, [1], true, 1)");
    terminal.wait_for_text("^^^^^");
    let lines = terminal.lines();
    let at = lines.iter().position(|line| line.trim() == "^^^^^").unwrap();
    // Wide letters take two columns, also in the row above the carets.
    let before = lines[at - 1].split("wrong").next().unwrap();
    let columns =
        before.chars().map(|c| if ('\u{2e80}'..'\u{a000}').contains(&c) { 2 } else { 1 }).sum::<usize>();
    assert_eq!(lines[at].find('^'), Some(columns), "{}", lines.join("\n"));
    assert!(lines[at - 1].starts_with("  …"), "the start of the row is cut off: {}", lines[at - 1]);
}

#[test]
fn what_was_meant_is_suggested() {
    let bed = Bed::stocked();
    let says = |statement: &str, code: &str, said: &str| {
        let failed = bed.eval([statement]).fails(code);
        assert!(failed.contains(said), "{statement}: {failed}");
    };
    says("values.lft.side()", "FUNCTION_NOT_FOUND", "no interface `lft`: did you mean `left`?");
    says("values.left.sde()", "FUNCTION_NOT_FOUND", "did you mean `side`?");
    says("values.echo-enum(gren)", "BAD_ARGUMENTS", "did you mean `green`?");
    says("values.echo-option(sme(1))", "BAD_ARGUMENTS", "did you mean `some`?");
    says("values.echo-string(abc)", "BAD_ARGUMENTS", "help: write a string in double quotes");
    says("Modul.list()", "SYNTAX", "did you mean `Module`?");
    let _kitchen = bed.node("kitchen");
    let failed = bed.eval(["Node.connect(kitchen)", "Node.run(kichen, math)"]).fails("NODE_NOT_CONNECTED");
    assert!(failed.contains("did you mean `kitchen`?"), "{failed}");
    let near = bed.eval(["values.ech-bool(true)"]).fails("FUNCTION_NOT_FOUND");
    assert!(near.lines().count() < 7, "only a few suggestions: {near}");
    let out =
        bed.eval(["help Node.run", "help values.left.side", "help values.right", "help math@1.0.0"]).ok();
    assert!(out.starts_with("Node.run(name, "), "{out}");
    assert!(out.contains("left@1.0.0.side: func()") && out.contains("right@1.0.0.side: func()"), "{out}");
    assert!(out.contains("add: func(p0: s32, p1: s32) -> s32"), "{out}");
}

#[test]
fn a_script_says_which_line_is_wrong() {
    let bed = Bed::stocked();
    let script = |text: &[u8]| {
        let mut running: Running = bed.start_gvm(["--name", "here"]);
        running.write(text);
        running.close_stdin();
        running.finish()
    };
    let out = script(b"\xef\xbb\xbf# sums\r\n\r\nmath.add(1,2) # three\r\nmath.add(20,22)").ok();
    assert!(out.contains("\n3\n") && out.ends_with("\n42\n"), "{out}");
    let ended = script(b"math.add(1,2)\n\nmath.add(1, x)\nmath.add(50,50)\n");
    assert!(!ended.out().contains("100"), "{}", ended.out());
    assert!(ended.fails("BAD_ARGUMENTS").contains("in line 3 of the script"));
    let ended = script(b"math.add(1,2)\n\"\xff\"\nmath.add(50,50)\n");
    assert!(ended.out().contains("\n3\n") && !ended.out().contains("100"), "{}", ended.out());
    assert!(ended.fails("SYNTAX").contains("line 2"), "a line that is not UTF-8 is an error");
}

/// A terminal that is closed like a window; a read from it never returns.
#[test]
fn a_closed_terminal_ends_its_node_in_order() {
    let bed = Bed::stocked();
    let file = bed.folder().join("pid");
    let command = format!("echo $$ > '{}'; exec '{GVM}' --name here", file.display());
    // `script` holds the node's terminal, which closes when `script` ends.
    let window = started(&bed, "script", &["-qfc", &command, "/dev/null"], &[("SHELL", "/bin/sh")]);
    wait_for_line(&window, "");
    let node = Leftover(read_pid(&file));
    let mut peer = bed.node("peer");
    assert_eq!(peer.ask("Node.connect(here)"), "here");
    window.press("math.add(1,");
    window.wait_for_text("math.add(1,p1: s32");
    drop(window);
    wait_until("the peer reports the shutdown", || peer.running.err().contains("[here is gone: shut down]"));
    wait_until("the node's process has ended", || test_kill_process(node.0).is_err());
    assert_eq!(bed.nodes(), ["peer"]);
}

/// A process that is not a child of the test. Dropping it kills the process.
struct Leftover(Pid);

impl Drop for Leftover {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

fn read_pid(file: &Path) -> Pid {
    wait_for("the node's process", || {
        let text = fs::read_to_string(file).ok()?;
        Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
    })
}
