//! What a person at the prompt sees while they type: completion, hints, history, events, colour.
//!
//! In: keys at terminals of several widths. Out: their screens. Must not know: how completions and hints are
//! found.

use crate::bed::{Bed, GVM};
use crate::guests;
use crate::terminal::Terminal;

const TAB: &str = "\t";
const RIGHT: &str = "\x1b[C";
const HOME: &str = "\x1b[H";
const CTRL_C: &str = "\x03";
const CTRL_U: &str = "\x15";

fn open(bed: &Bed, size: (u16, u16), options: &[&str], env: &[(&str, &str)]) -> Terminal {
    let home = bed.home();
    let env = [&[("GHOST_HOME", home.to_str().unwrap())], env].concat();
    let terminal = Terminal::sized(size, GVM, &[&["--name", "here"], options].concat(), &env, bed.folder());
    terminal.wait_for_prompt(None, |text| text == "(here) >");
    terminal
}

fn usual(bed: &Bed) -> Terminal {
    open(bed, (24, 80), &[], &[])
}

/// Waits until the cursor's line shows the prompt and this text.
#[track_caller]
fn wait_for_line(terminal: &Terminal, wanted: &str) {
    terminal.wait_for_prompt(None, |text| text == format!("(here) > {wanted}").trim_end());
}

/// Discards the typed line with Ctrl-C.
fn drop_line(terminal: &Terminal) {
    terminal.press(CTRL_C);
    wait_for_line(terminal, "");
}

#[test]
fn functions_are_completed_with_their_signatures() {
    let bed = Bed::stocked();
    for size in [(24, 80), (24, 200)] {
        let terminal = open(&bed, size, &[], &[]);
        terminal.press(&format!("values.echo-s{TAB}"));
        // Completion inserts the common prefix; the menu lists the candidates.
        terminal.wait("the menu", |screen| {
            let shown = screen.contents();
            let rows: Vec<&str> = shown.lines().filter(|row| row.starts_with("echo-s")).collect();
            let all = ["echo-s8(       (v: s8) -> s8", "echo-string(   (v: string) -> string"];
            all.iter().all(|row| rows.contains(row)).then_some(())
        });
        terminal.press(&format!("tring{TAB}"));
        // The only remaining candidate is inserted.
        terminal.wait("the name", |screen| screen.contents().contains("> values.echo-string").then_some(()));
        drop_line(&terminal);
        terminal.press(&format!("math@1.0.0.a{TAB}1, ma{TAB}.a{TAB}2,3))\r"));
        terminal.wait_for_text("(here) > math@1.0.0.add(1, math.add(2,3))");
        terminal.wait("the result", |screen| screen.contents().lines().any(|row| row == "6").then_some(()));
        terminal.enter("exit");
        terminal.wait_for_text("Goodbye :(");
    }
}

#[test]
fn nodes_and_instances_are_completed() {
    let bed = Bed::stocked();
    bed.upload("counter", &guests::wat("counter"));
    let _kitchen = bed.node("kitchen");
    let terminal = usual(&bed);
    terminal.press(&format!("Node.conn{TAB}ki{TAB})\r"));
    terminal
        .wait("the connection", |screen| screen.contents().lines().any(|row| row == "kitchen").then_some(()));
    terminal.press(&format!("Node.run(k{TAB}, math.a{TAB}20,22))\r"));
    terminal.wait("the result", |screen| screen.contents().lines().any(|row| row == "42").then_some(()));
    terminal.press(&format!("Node.spawn(kitchen, cou{TAB})\r"));
    terminal.wait("the instance", |screen| screen.contents().lines().any(|row| row == "i1").then_some(()));
    terminal.press(&format!("i{TAB}"));
    wait_for_line(&terminal, "i1");
    terminal.press(&format!(".{TAB}"));
    terminal.wait_for_text("increment()  () -> s32");
}

#[test]
fn gpmd_that_does_not_answer_holds_no_key_up() {
    let bed = Bed::stocked();
    let terminal = usual(&bed);
    rustix::process::kill_process(bed.gpmd_pid(), rustix::process::Signal::STOP).unwrap();
    let begun = std::time::Instant::now();
    terminal.press(&format!("Node.connect({TAB}{CTRL_U}math.{TAB}"));
    terminal.wait_for_text("p0: s32, p1: s32");
    let took = begun.elapsed();
    rustix::process::kill_process(bed.gpmd_pid(), rustix::process::Signal::CONT).unwrap();
    // A request to gpmd times out after seconds. A much shorter time shows that the prompt does not wait.
    assert!(took.as_millis() < 1500, "{took:?}");
}

#[test]
fn parameters_are_hinted_and_never_taken() {
    let bed = Bed::stocked();
    let terminal = usual(&bed);
    terminal.press("math.add(");
    terminal.wait_for_text("(here) > math.add(p0: s32, p1: s32");
    terminal.press("1,");
    terminal.wait_for_text("(here) > math.add(1,p1: s32");
    terminal.press(&format!("{RIGHT}2"));
    terminal.wait_for_text("(here) > math.add(1,2  p1: s32");
    terminal.press(",3");
    terminal.wait_for_text("math.add(1,2,3  too many arguments");
    terminal.press("\x7f\x7f)\r");
    terminal.wait("the result", |screen| screen.contents().lines().any(|row| row == "3").then_some(()));
    assert!(terminal.text().lines().any(|row| row == "(here) > math.add(1,2)"), "{}", terminal.text());
}

#[test]
fn history_is_kept_between_runs() {
    let bed = Bed::stocked();
    let first = usual(&bed);
    first.enter("math.add(20,22)");
    first.wait_for_text("\n42\n");
    first.enter("exit");
    first.wait_for_text("Goodbye :(");
    drop(first);
    let second = usual(&bed);
    second.press("math.a");
    second.wait_for_text("(here) > math.add(20,22)");
    second.press(&format!("{RIGHT}\r"));
    second.wait_for_text("\n42\n");
}

#[test]
fn events_stand_above_what_is_typed() {
    let bed = Bed::stocked();
    // A line that is shorter than the terminal, one that is longer only with the prompt, and one that is
    // longer by itself; one with letters of two bytes; and one with the cursor in its first row.
    let lines = [
        ("math.add(1, ".to_owned(), ""),
        (format!("math.add(1, {}", "0".repeat(62)), ""),
        (format!("math.add(1, {}", "0".repeat(80)), ""),
        (format!("values.echo-string(\"{}", "é".repeat(60)), ""),
        (format!("math.add(1, {}", "0".repeat(80)), HOME),
    ];
    for (typed, then) in lines {
        let terminal = usual(&bed);
        terminal.enter("math.add(20,22)");
        terminal.wait_for_text("\n42\n");
        terminal.press(&typed);
        let whole = |screen: &vt100::Screen| screen.contents().contains(&format!("(here) > {typed}"));
        terminal.wait("the typed line", |screen| whole(screen).then_some(()));
        terminal.press(then);
        bed.eval(["--name", "guest", "Node.connect(here)"]).ok();
        // vt100 joins the rows of a wrapped line, so the typed line appears once, after the events.
        terminal.wait("the events above", |screen| {
            let shown = screen.contents();
            let gone = shown.find("[guest is gone: shut down]")?;
            let at = shown.rfind(&format!("(here) > {typed}"))?;
            (shown.contains("[guest connected]") && at > gone).then_some(())
        });
        let shown = terminal.wait("one prompt", |screen| Some(screen.contents()));
        assert_eq!(shown.matches("(here) > ").count(), 2, "{typed}:\n{shown}");
        assert!(shown.contains("\n42\n[guest connected]"), "output above is kept: {typed}:\n{shown}");
    }
}

#[test]
fn events_and_questions_stand_above_an_open_menu() {
    let bed = Bed::stocked();
    let terminal = open(&bed, (24, 80), &["--accept", "ask"], &[]);
    terminal.press(&format!("values.echo-s{TAB}"));
    terminal.wait_for_text("(v: string) -> string");
    let asking = bed.start_gvm(["eval", "--name", "guest", "Node.connect(here)"]);
    terminal.wait("the question above the menu", |screen| {
        let shown = screen.contents();
        let question = shown.find("guest wants to connect. Allow? [y/N]")?;
        (question < shown.rfind("(here) > values.echo-s")? && shown.contains("-> string")).then_some(())
    });
    drop_line(&terminal);
    terminal.press("y\r");
    asking.finish().ok();
    terminal.wait_for_text("[guest connected]");
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let bed = Bed::stocked();
    let plain = open(&bed, (24, 80), &[], &[("NO_COLOR", "1")]);
    plain.press("math.add(");
    // Without colour, a hint is in brackets, so that it does not look like typed text.
    plain.wait_for_text("math.add(  [p0: s32, p1: s32]");
    plain.press("x)\r");
    plain.wait_for_text("BAD_ARGUMENTS");
    plain.press(&format!("ma{TAB}"));
    wait_for_line(&plain, "math");
    assert!(!plain.is_coloured());
    plain.enter("");
    plain.enter("exit");
    plain.wait_for_text("Goodbye :(");
    let coloured = usual(&bed);
    coloured.press("math.");
    coloured.wait_for_text("math.");
    coloured.press("add(1, 2)");
    coloured.wait_for_text("math.add(1, 2)");
    assert!(coloured.is_coloured());
}

#[test]
fn large_results_are_shortened_for_people_alone() {
    let bed = Bed::stocked();
    let terminal = usual(&bed);
    terminal.enter("values.bytes(1048576)");
    terminal.wait_for_text("… (1.0 MiB, 1048576 elements; pipe the output to get all of it)");
    let piped = bed.eval(["values.bytes(1048576)"]).ok();
    assert_eq!(piped.matches(',').count(), (1 << 20) - 1);
    assert!(!piped.contains('…'));
}

#[test]
fn wrong_arguments_are_pointed_at_wherever_they_run() {
    let bed = Bed::stocked();
    let _kitchen = bed.node("kitchen");
    let points = |statement: &str, under: &str, carets: usize| {
        let failed = bed.eval(["Node.connect(kitchen)", statement]).fails("BAD_ARGUMENTS");
        let wanted = format!(
            "  {statement}\n  {}{}\n",
            " ".repeat(statement.find(under).unwrap()),
            "^".repeat(carets)
        );
        assert!(failed.contains(&wanted), "{statement}:\n{failed}\nwanted:\n{wanted}");
        assert!(failed.contains(": func("), "the signature is shown: {failed}");
    };
    points("math.add(1, xyz)", "xyz", 3);
    points("Node.run(kitchen, math.add(1, xyz))", "xyz", 3);
    points("Node.run(kitchen, \"math.add(1, xyz)\")", "xyz", 3);
    points("math.add(math.add(1, xyz), 2)", "xyz", 3);
    points("math.add(1, Node.run(kitchen, math.add(xyz, 2)))", "xyz", 3);
    points("math.add(1, values.echo-string(\"x\"))", "values", 23);
    points("math.add(1 )", ")", 1);
}

#[test]
fn modules_are_listed_and_inspected() {
    let bed = Bed::stocked();
    let out = bed.eval(["Module.list()", "Module.inspect(math)", "Module.inspect(values@1.0.0)"]).ok();
    let listed: Vec<Vec<&str>> = out.lines().take(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(&listed[0][..3], ["math", "1.0.0", "core"]);
    assert_eq!(&listed[1][..3], ["values", "1.0.0", "component"]);
    assert!(
        out.contains("add: func(p0: s32, p1: s32) -> s32") && out.contains("export test:values/left@1.0.0;"),
        "{out}"
    );
    let json = bed.eval(["--json", "Module.list()", "Module.inspect(math)"]).json();
    assert_eq!(json[0]["result"][1]["name"], "values");
    assert_eq!(json[0]["result"][0]["main"], true);
    assert_eq!(json[1]["result"]["kind"], "core module");
    assert_eq!(json[1]["result"]["grants"], serde_json::json!([]));
    bed.eval(["Module.inspect(meth)"]).fails("MODULE_NOT_FOUND");
    assert!(bed.eval(["Module.lst()"]).fails("SYNTAX").contains("did you mean `list`?"));
    let empty = Bed::new();
    assert_eq!(empty.eval(["Module.list()"]).ok(), "");
}

/// Long types are shown by their names in the module, and `help` defines each name once.
#[test]
fn long_types_have_their_names() {
    let bed = Bed::stocked();
    assert_eq!(
        bed.eval(["help values.echo-variant", "help values.echo-enum"]).ok(),
        "echo-variant: func(v: shape) -> shape\n  \
         point: record { x: f64, y: f64 }\n  \
         shape: variant { nothing, circle(f32), line(tuple<point, point>), label(string), many(list<point>) }\n\
         echo-enum: func(v: colour) -> colour\n  \
         colour: enum { red, green, blue, none }\n"
    );
    // A short type is shown in full.
    assert_eq!(bed.eval(["help values.echo-bytes"]).ok(), "echo-bytes: func(v: list<u8>) -> list<u8>\n");
    let wrong = bed.eval(["values.echo-tree({name: 1})"]).fails("BAD_ARGUMENTS");
    assert!(wrong.contains("\n  echo-tree: func(v: tree) -> tree"), "{wrong}");
    let terminal = usual(&bed);
    terminal.press(&format!("values.echo-tre{TAB}"));
    terminal.wait("the hint", |screen| screen.contents().contains("values.echo-tree(v: tree").then_some(()));
    drop_line(&terminal);
}

#[test]
fn unicode_is_typed_shown_and_pointed_at() {
    let bed = Bed::stocked();
    let terminal = usual(&bed);
    terminal.enter("values.echo-string(\"héllo 世界 🎉\")");
    terminal.wait_for_text("\n\"héllo 世界 🎉\"");
    terminal.enter("values.echo-u8(\"世界\")");
    terminal.wait_for_text("BAD_ARGUMENTS");
    terminal.press(&format!("values.echo-string(\"世界{TAB}"));
    terminal.wait_for_text("echo-string(\"世界");
}

#[test]
fn what_a_guest_writes_does_not_touch_the_prompt() {
    let bed = Bed::stocked();
    bed.upload("mischief", &guests::p1("mischief"));
    let terminal = usual(&bed);
    terminal.enter("mischief");
    terminal.wait_for_text("after");
    terminal.press("math.add(1");
    terminal.wait_for_text("(here) > math.add(1  p0: s32, p1: s32");
    let shown = terminal.text();
    assert!(shown.starts_with("GVM has been created here"), "the screen was cleared:\n{shown}");
    assert!(shown.contains("before") && shown.contains("(here) > mischief"), "{shown}");
}

#[test]
fn names_in_modules_do_not_touch_the_terminal() {
    let bed = Bed::new();
    let text = r#"(module (func (export "\1b[2Jwiped")) (func (export "plain") (param i32)))"#;
    let odd = bed.write("odd.wat", text);
    bed.upload("odd", &odd);
    let terminal = usual(&bed);
    terminal.press(&format!("odd.{TAB}"));
    wait_for_line(&terminal, "odd.plain(p0: s32");
    drop_line(&terminal);
    terminal.enter("help odd");
    terminal.enter("Module.inspect(odd)");
    terminal.wait_for_text("sha256");
    let shown = terminal.text();
    assert!(shown.starts_with("GVM has been created here"), "the screen was cleared:\n{shown}");
    assert!(shown.contains("wiped: func()"), "{shown}");
}
