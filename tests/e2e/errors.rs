//! Error codes and their outcome classes.
//!
//! In: statements and commands that fail. Out: the error code, on the screen and in JSON. Other files test
//! the codes of lost nodes (`nodes.rs`), limits (`limits.rs`) and cancellation (`cancel.rs`). Must not know:
//! complete messages.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::bed::Bed;
use crate::guests;
use crate::process::wait_until;

/// Statements that fail, with error code and outcome. The tests run each on this node and on another one.
const FAILING: &[(&str, &str, &str)] = &[
    ("nowhere.add(1, 2)", "MODULE_NOT_FOUND", "not-started"),
    ("math@9.0.0.add(1, 2)", "MODULE_NOT_FOUND", "not-started"),
    ("math.subtract(1, 2)", "FUNCTION_NOT_FOUND", "not-started"),
    ("counter", "FUNCTION_NOT_FOUND", "not-started"),
    ("values.side()", "FUNCTION_AMBIGUOUS", "not-started"),
    ("math.add(1)", "BAD_ARGUMENTS", "not-started"),
    ("math.add(1, 2, 3)", "BAD_ARGUMENTS", "not-started"),
    ("math.add(1, \"two\")", "BAD_ARGUMENTS", "not-started"),
    ("values.echo-u8(-1)", "BAD_ARGUMENTS", "not-started"),
    ("values.echo-enum(purple)", "BAD_ARGUMENTS", "not-started"),
    ("values.echo-record({name: \"n\"})", "BAD_ARGUMENTS", "not-started"),
    ("values.heaviest()", "UNSUPPORTED_TYPE", "not-started"),
    ("numbers.vector(1)", "UNSUPPORTED_TYPE", "not-started"),
    ("numbers.reference(1)", "UNSUPPORTED_TYPE", "not-started"),
    ("unknown", "IMPORT_UNSATISFIED", "not-started"),
    ("numbers.divide(1, 0)", "TRAP", "ran-and-failed"),
    ("numbers.fail()", "TRAP", "ran-and-failed"),
    ("values.trap-unreachable()", "TRAP", "ran-and-failed"),
    ("values.trap-panic(\"why\")", "TRAP", "ran-and-failed"),
    ("broken.bad()", "TRAP", "ran-and-failed"),
    ("broken.far()", "TRAP", "ran-and-failed"),
    ("broken.letter()", "TRAP", "ran-and-failed"),
    ("values.leave(3)", "GUEST_EXIT", "ran-and-failed"),
    ("values.trap-stack(100000000)", "LIMIT_EXCEEDED", "ran-and-failed"),
];

fn bed() -> Bed {
    let bed = Bed::stocked();
    for (name, file) in [
        ("numbers", "numbers"),
        ("counter", "counter"),
        ("broken", "bad-string"),
        ("unknown", "unknown-import"),
        ("leave", "leave"),
    ] {
        bed.upload(name, &guests::wat(file));
    }
    bed
}

#[test]
fn of_calls_here() {
    let bed = bed();
    for (statement, code, outcome) in FAILING {
        check(&bed, &[statement], code, outcome);
    }
}

#[test]
fn of_calls_there() {
    let bed = bed();
    let _b = bed.node("b");
    for (statement, code, outcome) in FAILING {
        check(&bed, &["Node.connect(b)", &format!("Node.run(b, {statement})")], code, outcome);
    }
    // The node survives every failure.
    assert_eq!(bed.nodes(), ["b"]);
}

#[track_caller]
fn check(bed: &Bed, statements: &[&str], code: &str, outcome: &str) {
    let ended = bed.eval([&["--json"], statements].concat());
    let lines = ended.json();
    let error = lines.last().map(|line| line["error"].clone()).unwrap_or_default();
    assert_eq!(
        (&error["code"], &error["outcome"]),
        (&code.into(), &outcome.into()),
        "{statements:?}: {} {}",
        ended.out(),
        ended.err()
    );
}

#[test]
fn messages_help() {
    let bed = bed();
    for (statement, words) in [
        ("meth.add(1, 2)", &["math"][..]),
        ("math.ad(1, 2)", &["`add`", "s32"]),
        ("math.add(1, two)", &["add: func(", "two)\n", "^^^"]),
        (
            "values.side()",
            &["values.\"test:values/left@1.0.0\".side", "values.\"test:values/right@1.0.0\".side"],
        ),
        ("numbers.fail()", &["unreachable", "at inner", "at outer"]),
        ("unknown", &["environment", "launch"]),
        ("leave", &["status 4"]),
    ] {
        let err = bed.eval([statement]).err();
        assert!(words.iter().all(|word| err.contains(word)), "{statement}: {err}");
    }
}

#[test]
fn of_syntax() {
    let bed = Bed::stocked();
    for statement in [
        "math.add(1",
        "math.",
        "Node.fly()",
        "Node.connect()",
        "math.add(1) 2",
        "9",
        "a.b.c.d(1)",
        "math.add",
        "math(1)",
        "Node.run(b)",
    ] {
        let err = bed.eval([statement]).fails("SYNTAX");
        assert!(err.contains('^'), "the message does not mark the position: {err}");
    }
}

#[test]
fn of_homes_and_daemons() {
    let bed = Bed::bare();
    let err = bed.eval(["math"]).fails("GPMD_NOT_RUNNING");
    assert!(err.contains("gpmd start"), "{err}");
    bed.gvm::<&str>([]).fails("GPMD_NOT_RUNNING");
    bed.run(["--node", "b", "math"]).fails("GPMD_NOT_RUNNING");
    bed.gpmd([
        "wasm",
        "upload",
        "--name=a",
        "--version=1.0.0",
        &format!("--file={}", guests::math().display()),
    ])
    .fails("GPMD_NOT_RUNNING");

    fs::set_permissions(bed.home(), fs::Permissions::from_mode(0o755)).unwrap();
    let err = bed.gpmd(["start"]).fails("HOME_INSECURE");
    assert!(err.contains("chmod 700"), "{err}");
    bed.eval(["math"]).fails("HOME_INSECURE");
    fs::set_permissions(bed.home(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn of_stored_modules() {
    let bed = Bed::stocked();
    let upload = |file: &str| {
        bed.gpmd(["wasm", "upload", "--name=math", "--version=1.0.0", &format!("--file={file}")])
    };
    upload(guests::wat("hello").to_str().unwrap()).fails("MODULE_EXISTS");
    bed.write("junk.wasm", b"\0asm\x01\0\0\0\x09\x09");
    upload("junk.wasm").fails("MODULE_INVALID");

    // A damaged file never runs, and other modules still do. Code that was compiled from the intact file
    // would also run, so the test deletes it first.
    wait_until("both uploads are compiled ahead", || bed.compiled() >= 2);
    bed.eval(["math.add(1, 2)", "values.echo-u8(1)"]).ok();
    fs::remove_dir_all(bed.home().join("compiled")).unwrap();
    let hash = wat_hash(&bed);
    let path = bed.home().join(format!("modules/{hash}.wasm"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    bed.eval(["math.add(1, 2)"]).fails("MODULE_CORRUPT");
    assert_eq!(bed.eval(["values.echo-u8(1)"]).ok(), "1\n");
}

/// Returns the hash of the home's `math`, as its index lists it.
fn wat_hash(bed: &Bed) -> String {
    let info: serde_json::Value =
        serde_json::from_str(&bed.gpmd(["wasm", "show", "math", "--json"]).ok()).unwrap();
    let find = |value: &serde_json::Value| value["sha256"].as_str().map(str::to_owned);
    let found = find(&info)
        .or_else(|| info.as_array()?.iter().find_map(find))
        .or_else(|| info["versions"].as_array()?.iter().find_map(find));
    found.unwrap_or_else(|| panic!("no sha256 in {info}"))
}
