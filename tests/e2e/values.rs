//! Values of every type, passed to a component and returned, here and on another node.
//!
//! In: values as WAVE text. Out: the same text. Must not know: how values are transferred.

use crate::bed::Bed;
use crate::guests;

/// Functions that return their argument, and the arguments for them.
const CASES: &[(&str, &[&str])] = &[
    ("echo-bool", &["true", "false"]),
    ("echo-s8", &["-128", "127"]),
    ("echo-u8", &["0", "255"]),
    ("echo-s16", &["-32768", "32767"]),
    ("echo-u16", &["65535"]),
    ("echo-s32", &["-2147483648", "2147483647"]),
    ("echo-u32", &["4294967295"]),
    ("echo-s64", &["-9223372036854775808", "9223372036854775807"]),
    ("echo-u64", &["18446744073709551615"]),
    ("echo-f32", &["0.1", "-0", "nan", "inf", "-inf", "340282350000000000000000000000000000000"]),
    ("echo-f64", &["0.1", "-0", "nan", "inf", "-inf", "0.000000000000000000000000000001"]),
    ("echo-char", &["'a'", "'é'", "'🦀'", r"'\''", r"'\u{0}'", r"'\n'", r"'\u{301}'", "'漢'"]),
    (
        "echo-string",
        &[
            "\"\"",
            r#""a \"b\" \\ c""#,
            r#""nul \u{0} inside""#,
            r#""tab\tline\n""#,
            r#""🦀 e\u{301} 漢字 \u{10ffff}""#,
        ],
    ),
    ("echo-bytes", &["[]", "[0, 1, 255]"]),
    ("echo-numbers", &["[]", "[0.5, nan, -inf, -0]"]),
    ("echo-words", &["[-32768, 0, 32767]"]),
    ("echo-strings", &["[]", r#"["", "a", "é\u{0}"]"#]),
    ("echo-bools", &["[true, false, true]"]),
    (
        "echo-record",
        &[r#"{name: "n", note: some("x"), count: 18446744073709551615}"#, r#"{name: "", count: 0}"#],
    ),
    ("echo-tuple", &[r#"(1, "two", {x: 3, y: -0})"#]),
    (
        "echo-variant",
        &[
            "nothing",
            "circle(nan)",
            "line(({x: 0, y: 1}, {x: 2, y: inf}))",
            r#"label("")"#,
            "many([])",
            "many([{x: 1, y: 2}])",
        ],
    ),
    ("echo-enum", &["red", "blue", "%none"]),
    ("echo-option", &["none", "some(none)", "some(some(4294967295))"]),
    ("echo-result", &["ok(255)", r#"err("no")"#]),
    ("echo-result-ok", &["ok(1)", "err"]),
    ("echo-result-err", &["ok", r#"err("")"#]),
    ("echo-result-bare", &["ok", "err"]),
    ("echo-flags", &["{}", "{read, run}", "{read, write, run}"]),
    ("echo-wide", &["{}", "{a0, b9, d1}"]),
    (
        "echo-tree",
        &[
            r#"{name: "bare", branches: []}"#,
            r#"{name: "full", branches: [cut, grown(err("frost")), grown(ok([none, some(({rights: {write}, glyph: '🦀', raw: [0, 255]}, %none))]))], crown: some(some(many([{x: nan, y: -inf}])))}"#,
        ],
    ),
];

#[test]
fn come_back_here() {
    let bed = Bed::stocked();
    let statements: Vec<String> =
        cases().map(|(function, value)| format!("values.{function}({value})")).collect();
    let out = bed.eval(&statements).ok();
    check(&out.lines().collect::<Vec<_>>());
}

#[test]
fn come_back_from_another_node() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    let calls = cases().map(|(function, value)| format!("Node.run(b, values.{function}({value}))"));
    let statements: Vec<String> = ["Node.connect(b)".to_owned()].into_iter().chain(calls).collect();
    let out = bed.eval(&statements).ok();
    let lines: Vec<&str> = out.lines().skip(1).collect();
    assert!(lines.iter().step_by(2).all(|line| line.starts_with("ID:  ")), "{out}");
    check(&lines.into_iter().skip(1).step_by(2).collect::<Vec<_>>());
}

fn cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    CASES.iter().flat_map(|(function, values)| values.iter().map(|value| (*function, *value)))
}

#[track_caller]
fn check(lines: &[&str]) {
    assert_eq!(lines.len(), cases().count());
    for ((function, value), line) in cases().zip(lines) {
        assert_eq!(*line, value, "{function}");
    }
}

#[test]
fn many_arguments_and_numbers_of_core_modules() {
    let bed = Bed::stocked();
    bed.upload("numbers", &guests::wat("numbers"));
    let many = r#"values.echo-many(1, "b", 0.5, [1, 2], true, -5, 'g', some(8), 9)"#;
    let out = bed
        .eval([
            many,
            "numbers.i32(-1)",
            "numbers.i64(-9223372036854775808)",
            "numbers.f32(0.1)",
            "numbers.f64(nan)",
            "numbers.swap(1, 2.5)",
            "numbers.all(1, 2, 3, 4)",
            "numbers.nothing()",
        ])
        .ok();
    let lines: Vec<&str> = out.lines().collect();
    let expected = [
        r#"(1, "b", 0.5, [1, 2], true, -5, 'g', some(8), 9)"#,
        "-1",
        "-9223372036854775808",
        "0.1",
        "nan",
        "(2.5, 1)",
        "(1, 2, 3, 4)",
    ];
    assert_eq!(lines, expected);
}

/// Large lists of bytes and numbers and a large text, from a script, here and on another node.
#[test]
fn large_ones() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    let bytes: Vec<String> = (0..1 << 20).map(|index| (index % 256).to_string()).collect();
    let numbers: Vec<String> = (0..1 << 17).map(|index| format!("{index}.5")).collect();
    let values = [
        ("echo-bytes", format!("[{}]", bytes.join(", "))),
        ("echo-numbers", format!("[{}]", numbers.join(", "))),
        ("echo-string", format!("\"{}\"", "🦀é漢a".repeat(1 << 17))),
    ];
    let mut script = String::from("Node.connect(b)\n");
    for (function, value) in &values {
        script += &format!("values.{function}({value})\nNode.run(b, values.{function}({value}))\n");
    }
    let mut running = bed.start_gvm::<&str>([]);
    running.write(script.as_bytes());
    let out = running.finish().ok();
    let lines: Vec<&str> = out.lines().skip(1).filter(|line| !line.starts_with("ID:  ")).collect();
    assert_eq!(lines.len(), 6);
    for (pair, (function, value)) in lines.chunks(2).zip(&values) {
        assert!(pair[0] == value && pair[1] == value, "{function} returns another value");
    }
}

#[test]
fn as_json() {
    let bed = Bed::stocked();
    let statements = [
        ("values.echo-u64(18446744073709551615)", r#""18446744073709551615""#),
        ("values.echo-bytes([0, 255, 16])", r#"{"base64":"AP8Q"}"#),
        ("values.echo-f64(nan)", r#""nan""#),
        ("values.echo-record({name: \"n\", count: 1})", r#"{"name":"n","note":null,"count":1}"#),
        ("values.echo-option(some(none))", r#"{"some":null}"#),
        ("values.refuse(\"no\")", r#"{"err":"no"}"#),
        ("values.nothing()", "null"),
    ];
    let ended = bed.eval([&["--json"], &statements.map(|(statement, _)| statement)[..]].concat());
    for (line, (statement, expected)) in ended.json().iter().zip(statements) {
        assert_eq!(line["result"].to_string(), expected, "{statement}");
    }
    assert_eq!((ended.status, ended.json().len()), (Some(0), statements.len()));
}
