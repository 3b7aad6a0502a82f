//! The prompt, scripts and the command line read the same text in the same way.
//!
//! In: statements that one of the three could parse differently. Out: the same answer from each. Must not
//! know: how the text is parsed.

use crate::bed::{Bed, GVM};
use crate::guests;
use crate::process::{Ended, Running};
use crate::terminal::Terminal;

/// Runs `gvm` with a script on standard input.
fn script(bed: &Bed, text: &str) -> Ended {
    let mut running = Running::start(&mut bed.command(GVM));
    running.write(text.as_bytes());
    running.finish()
}

#[test]
fn lines_within_brackets_are_one_statement() {
    let bed = Bed::stocked();
    let text = "values.echo-string(\"\"\"\n  it's (a)\n  b\n  \"\"\")";
    assert_eq!(bed.eval([text]).ok(), "\"it\\'s (a)\\nb\"\n");
    assert_eq!(script(&bed, text).ok(), "\"it\\'s (a)\\nb\"\n");
    let invoke = text.strip_prefix("values.").unwrap();
    let values = guests::values();
    assert_eq!(bed.run(["--invoke", invoke, values.to_str().unwrap()]).ok(), "\"it\\'s (a)\\nb\"\n");
    let list = "# a list\nvalues.echo-string(\n  \"x\" // (one\n)\n\nvalues.echo-u8(\n7)\n";
    assert_eq!(script(&bed, list).ok(), "\"x\"\n7\n");
    let err = script(&bed, "values.echo-u8(1)\nvalues.echo-u8(\n  256\n)\nvalues.echo-u8(2)\n")
        .fails("BAD_ARGUMENTS");
    assert!(err.contains("in line 2 of the script"), "{err}");
    // An unclosed bracket or quote is reported on the line where it opens.
    let err = script(&bed, "values.echo-u8(1)\nvalues.echo-u8((2)\nvalues.echo-u8(3)\n").fails("SYNTAX");
    assert!(err.contains("in line 2 of the script"), "{err}");
    let err = script(&bed, "values.echo-string(\"a)\nvalues.echo-u8(3)\n").fails("SYNTAX");
    assert!(err.contains("this quote is not closed") && err.contains("in line 1"), "{err}");
}

#[test]
fn commas_too_many_are_errors_everywhere() {
    let bed = Bed::stocked();
    let values = guests::values();
    let values = values.to_str().unwrap();
    for args in ["3", "3,", " 3 , "] {
        let call = format!("echo-u8({args})");
        assert_eq!(bed.eval([format!("values.{call}")]).ok(), "3\n");
        assert_eq!(script(&bed, &format!("values.{call}")).ok(), "3\n");
        assert_eq!(bed.run(["--invoke", &call, values]).ok(), "3\n");
    }
    for args in ["3,,", "3 , ,", "3,,,", ",3", ",", "3,,4"] {
        let call = format!("echo-u8({args})");
        for ended in [
            bed.eval([format!("values.{call}")]),
            script(&bed, &format!("values.{call}")),
            bed.run(["--invoke", &call, values]),
            bed.run([format!("values.{call}")]),
        ] {
            let err = ended.fails("BAD_ARGUMENTS");
            assert!(err.contains("unexpected `,`") && err.contains('^'), "{args}: {err}");
        }
    }
    let _b = bed.node("b");
    bed.eval([
        "Node.connect(b,)",
        "Node.run(b, math.add(1, 2),)",
        "Node.disconnect(b,)",
        "Module.inspect(math,)",
    ])
    .ok();
    for wrong in ["Node.connect(b,,)", "Node.connect(,b)", "Module.inspect(math,,)", "Node.run(b,,math)"] {
        bed.eval([wrong]).fails("SYNTAX");
    }
}

#[test]
fn prerelease_versions() {
    let bed = Bed::new();
    let file = format!("--file={}", guests::wat("counter").display());
    bed.gpmd(["wasm", "upload", "--name=counter", "--version=1.0.0-rc.1", &file]).ok();
    for version in ["counter@1.0.0-rc.1", "counter@v1.0.0-rc.1", "counter@\"1.0.0-rc.1\""] {
        bed.gvm(["inspect", version]).ok();
        bed.eval([format!("Module.inspect({version})")]).ok();
        bed.eval([format!("Node.spawn({version})"), "i1.increment()".to_owned()]).ok();
        script(&bed, &format!("Node.spawn({version})\n")).ok();
    }
    bed.eval(["counter@\"1.0.0-rc.1\".increment()"]).ok();
    bed.run(["counter@\"1.0.0-rc.1\".increment()"]).ok();
    // `1.0.0-rc.1.increment` is also a valid version, so a prerelease version needs quotes before a function.
    let err = bed.eval(["counter@1.0.0-rc.1.increment()"]).fails("SYNTAX");
    let written = "help: write it as in `math@\"1.0.0-rc.1\".add(1, 2)`";
    assert!(err.contains("this version needs quotes") && err.contains(written), "{err}");
    let ended = bed.run(["counter@1.0.0-rc.1.increment()"]);
    assert!(ended.status == Some(2) && ended.err().contains(written), "{ended:?}");
}

#[test]
fn modules_that_are_called_like_instances() {
    let bed = Bed::new();
    bed.upload("i1", &guests::wat("counter"));
    bed.upload("i3", &guests::wat("counter"));
    let statements =
        ["Node.spawn(i1)", "Node.spawn(i1)", "i2.increment()", "i2.increment()", "i1.increment()"];
    let out = bed.eval(statements).ok();
    let lines: Vec<&str> = out.lines().filter(|line| !["", "counting"].contains(line)).collect();
    // Instances do not take the names of modules: the last call uses a fresh instance of the module `i1`.
    assert_eq!(lines, ["i2", "i4", "1", "2", "1"], "{out}");
}

/// Pastes several lines, first without the bracketed-paste marks, as older terminals do.
#[test]
fn what_is_pasted_in_triple_quotes_is_one_statement() {
    let bed = Bed::stocked();
    let home = bed.home();
    for term in ["xterm-256color", "dumb"] {
        let env = [("GHOST_HOME", home.to_str().unwrap()), ("NO_COLOR", "1"), ("TERM", term)];
        let terminal = Terminal::open(GVM, &["--name", "a"], &env, bed.folder());
        let is_prompt = |text: &str| text == "(a) >";
        let row = terminal.wait_for_prompt(None, is_prompt).0;
        terminal.enter("values.echo-string(\"\"\"\n  one\n  two\n  \"\"\")");
        terminal.wait_for_prompt(Some(row), is_prompt);
        terminal.wait_for_text("\"one\\ntwo\"");
    }
    // Then with the marks, as current terminals do.
    let env = [("GHOST_HOME", home.to_str().unwrap()), ("NO_COLOR", "1")];
    let terminal = Terminal::open(GVM, &["--name", "a"], &env, bed.folder());
    terminal.wait_for_prompt(None, |text| text == "(a) >");
    terminal.press("\x1b[200~values.echo-string(\"\"\"\n  three\n  four\n  \"\"\")\x1b[201~\r");
    terminal.wait_for_text("\"three\\nfour\"");
}
