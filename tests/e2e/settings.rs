//! `config.toml` in the home; shell completions, man pages, `--help` and `gvm inspect`.
//!
//! In: settings, flags, the environment. Out: which of them takes effect. Must not know: how they are read.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::bed::{Bed, GPMD, GVM};
use crate::process::Running;

fn configure(bed: &Bed, text: &str) {
    fs::write(bed.home().join("config.toml"), text).unwrap();
}

#[test]
fn flags_stand_above_the_file() {
    let bed = Bed::stocked();
    configure(&bed, "timeout = \"300ms\"\nmax-output = \"1KiB\"\n");
    assert!(bed.eval(["values.spin()"]).fails("TIMEOUT").contains("300ms"));
    let flagged =
        Running::start(bed.command(GVM).args(["--timeout", "100ms", "eval", "values.spin()"])).finish();
    assert!(flagged.fails("TIMEOUT").contains("100ms"));
    let spoken = format!("values.speak(\"{}\")", "x".repeat(3000));
    bed.eval([spoken.as_str()]).fails("LIMIT_EXCEEDED");
    Running::start(bed.command(GVM).args(["--max-output", "1MiB", "eval", &spoken])).finish().ok();
}

#[test]
fn policies_and_names_come_from_the_file() {
    let bed = Bed::stocked();
    configure(&bed, "name = \"kitchen\"\naccept = [\"friend\"]\nallow-call = [\"math.*\"]\n");
    let mut kitchen = Running::start(&mut bed.command(GVM));
    crate::process::wait_until("the node is there", || bed.nodes() == ["kitchen"]);
    // The node of a single command does not use the configured name.
    bed.eval(["--name", "stranger", "Node.connect(kitchen)"]).fails("CONNECTION_DENIED");
    let friend = |statement: &str| bed.eval(["--name", "friend", "Node.connect(kitchen)", statement]);
    assert!(friend("Node.run(kitchen, math.add(1, 2))").ok().ends_with("3\n"));
    friend("Node.run(kitchen, values.increment())").fails("NOT_PERMITTED");
    assert!(bed.eval(["math.add(1, 2)"]).ok().ends_with("3\n"));
    kitchen.write(b"exit\n");
}

#[test]
fn grants_of_the_file_are_no_wrong_usage() {
    let bed = Bed::stocked();
    let there = bed.node("there");
    configure(&bed, "env = [\"COLOUR=red\"]\ngrant = [\"nodes\"]\n");
    bed.run(["--node", "there", "math.add(1, 2)"]).ok();
    let refused = bed.run(["--node", "there", "--env", "A=b", "math.add(1, 2)"]);
    assert_eq!(refused.status, Some(2), "{}", refused.err());
    drop(there);
}

#[test]
fn mistakes_in_the_file_are_told_by_their_line() {
    let bed = Bed::stocked();
    for (text, words) in [
        (
            "timeout = \"soon\"",
            [
                "config.toml, line 1: timeout: \"soon\" is not a duration",
                "\nhelp: write a number and a unit, such as 2s",
            ],
        ),
        ("\n\naccept = \"Not A Name\"", ["line 3: accept", "`Not A Name` is not a valid name"]),
        ("dir = [\"a::b::c::d\"]", ["line 1: dir", "expected `ro` or `rw`, found `c`"]),
        (
            "grant = [\"everything\"]",
            ["line 1: grant: unknown grant \"everything\"", "\nhelp: the grants are `nodes` and `keyvalue`"],
        ),
        ("max-memory = 64", ["line 1", "string"]),
        ("tiemout = \"1s\"", ["line 1", "did you mean `timeout`"]),
    ] {
        configure(&bed, text);
        let error = bed.eval(["math.add(1, 2)"]).fails("SYNTAX");
        assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
    }
    // `gpmd status` works although the file has a mistake.
    bed.gpmd(["status"]).ok();
}

#[test]
fn the_daemon_has_its_own_part() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut bed = Bed::bare();
    bed.gpmd(["wasm", "list"]).ok();
    configure(&bed, &format!("[gpmd]\nport = {port}\n"));
    let mut start = bed.command(GPMD);
    let failed = Running::start(start.env_remove("GPMD_PORT").args(["start"])).finish();
    assert!(failed.fails("PORT_IN_USE").contains(&port.to_string()));
    // The environment overrides the file.
    bed.start_gpmd();
    assert!(!bed.gpmd(["status"]).ok().contains(&port.to_string()));
}

#[test]
fn shells_and_man_are_told() {
    let bed = Bed::bare();
    for (program, name, word) in [(GVM, "gvm", "doctor"), (GPMD, "gpmd", "upload")] {
        for shell in ["bash", "zsh", "fish"] {
            let script = Running::start(bed.command(program).args(["completions", shell])).finish().ok();
            assert!(script.contains(word), "{name} {shell}: {script}");
            if shell == "bash" {
                let file = bed.write("script", script);
                assert!(Command::new("bash").arg("-n").arg(file).status().unwrap().success());
            }
        }
        let page = Running::start(bed.command(program).arg("man")).finish().ok();
        assert!(page.contains(&format!(".TH {name} 1")), "{page}");
        Running::start(bed.command(program).args(["man", "pages"])).finish().ok();
    }
    assert!(!bed.home().exists(), "none of these commands creates a home");
    for page in ["gvm.1", "gvm-run.1", "gvm-doctor.1", "gpmd.1", "gpmd-wasm-upload.1"] {
        assert!(bed.folder().join("pages").join(page).exists(), "{page}");
    }
}

#[test]
fn help_is_worth_reading() {
    let bed = Bed::bare();
    for words in [
        &["--help"][..],
        &["run", "--help"],
        &["eval", "--help"],
        &["inspect", "--help"],
        &["doctor", "--help"],
    ] {
        let help = bed.gvm(words).ok();
        assert!(help.contains("Examples:"), "{words:?}: {help}");
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{words:?}: {help}");
    }
    let help = bed.gvm(["--help"]).ok();
    let headings = ["Node:", "Access for other nodes:", "Call limits:", "Grants for guests:"];
    assert!(headings.iter().all(|heading| help.contains(heading)), "{help}");
}

#[test]
fn what_a_module_needs_is_told() {
    let bed = Bed::bare();
    let text = bed.gvm(["inspect", crate::guests::p1("files").to_str().unwrap()]).ok();
    assert!(text.contains("may need these grants") && text.contains("--dir"), "{text}");
    let json = bed.gvm(["inspect", "--json", crate::guests::p1("files").to_str().unwrap()]).json();
    let flags: Vec<&str> =
        json[0]["grants"].as_array().unwrap().iter().map(|grant| grant["flag"].as_str().unwrap()).collect();
    assert!(flags.contains(&"--dir"), "{flags:?}");
    let foreign = bed.gvm(["inspect", crate::guests::wat("unknown-import").to_str().unwrap()]).ok();
    assert!(foreign.contains("cannot run here: no node offers\n  environment.launch"), "{foreign}");
    // An import that only brings types needs no node to offer it, so this module can run.
    let values = bed.gvm(["inspect", "--json", crate::guests::values().to_str().unwrap()]).json();
    assert_eq!(values[0]["unsatisfied"], serde_json::json!([]), "{values:?}");
}

#[test]
fn what_cannot_be_inspected_says_what_can() {
    let bed = Bed::stocked();
    bed.gvm(["inspect", "math@1.0.0"]).ok();
    assert!(
        bed.gvm(["inspect", "nofile.wasm"])
            .fails("MODULE_NOT_FOUND")
            .contains("file `nofile.wasm` does not exist")
    );
    for words in ["math.add", "math.add(1, 2)"] {
        let ended = bed.gvm(["inspect", words]);
        assert_eq!(ended.status, Some(2), "{ended:?}");
        assert!(ended.err().contains("\nhelp: run `gvm inspect math`"), "{}", ended.err());
    }
    bed.write("mine", fs::read(crate::guests::values()).unwrap());
    assert!(bed.gvm(["inspect", "mine"]).fails("MODULE_NOT_FOUND").contains("use `./mine`"));
    bed.gvm(["inspect", "./mine"]).ok();
    bed.gvm(["help"]).ok();
}
