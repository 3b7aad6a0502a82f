//! Maps and lists of a fixed length, passed to a component and returned: here, on another node, in a live instance.
//!
//! In: values as WAVE text. Out: the same text, or an error that points at what does not fit. Must not know: how values
//! are transferred.

use crate::bed::Bed;

/// Functions that return their argument. Those with more than 16 slots take a pointer and return it.
const ECHO: &str = r#"(component
    (core module $m
        (memory (export "memory") 4)
        (global $top (mut i32) (i32.const 1024))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (local $at i32)
            (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
            (global.set $top (i32.add (local.get $at) (local.get 3)))
            (local.get $at))
        (func (export "pair") (param i32 i32) (result i32)
            (i32.store (i32.const 8) (local.get 0)) (i32.store (i32.const 12) (local.get 1)) (i32.const 8))
        (func (export "bytes") (param i32 i32 i32 i32) (result i32)
            (i32.store8 (i32.const 8) (local.get 0)) (i32.store8 (i32.const 9) (local.get 1))
            (i32.store8 (i32.const 10) (local.get 2)) (i32.store8 (i32.const 11) (local.get 3)) (i32.const 8))
        (func (export "one") (param i32) (result i32) (local.get 0)))
    (core instance $i (instantiate $m))
    (alias core export $i "memory" (core memory $memory))
    (alias core export $i "realloc" (core func $realloc))
    (func (export "counts") (param "v" (map string u32)) (result (map string u32))
        (canon lift (core func $i "pair") (memory $memory) (realloc $realloc)))
    (func (export "points") (param "v" (map u8 (list f64 2))) (result (map u8 (list f64 2)))
        (canon lift (core func $i "pair") (memory $memory) (realloc $realloc)))
    (func (export "nested") (param "v" (map char (map bool (list u16)))) (result (map char (map bool (list u16))))
        (canon lift (core func $i "pair") (memory $memory) (realloc $realloc)))
    (func (export "four") (param "v" (list u8 4)) (result (list u8 4))
        (canon lift (core func $i "bytes") (memory $memory) (realloc $realloc)))
    (func (export "single") (param "v" (list s32 1)) (result (list s32 1))
        (canon lift (core func $i "one") (memory $memory) (realloc $realloc)))
    (func (export "many") (param "v" (list f64 20)) (result (list f64 20))
        (canon lift (core func $i "one") (memory $memory) (realloc $realloc)))
    (func (export "large") (param "v" (list u32 30000)) (result (list u32 30000))
        (canon lift (core func $i "one") (memory $memory) (realloc $realloc)))
    (func (export "text") (param "v" (list string 1)) (result (list string 1))
        (canon lift (core func $i "pair") (memory $memory) (realloc $realloc))))"#;

const CASES: &[(&str, &str)] = &[
    ("counts", "[]"),
    ("counts", r#"[("a", 1), ("b", 2), ("a", 4294967295)]"#),
    ("points", "[(255, [0.5, -0]), (0, [nan, inf])]"),
    ("nested", "[('x', [(true, [1, 65535]), (false, [])]), ('é', [])]"),
    ("four", "[0, 1, 2, 255]"),
    ("single", "[-2147483648]"),
    ("many", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 0.5]"),
    ("text", r#"["é\u{0}"]"#),
];

fn stocked() -> Bed {
    let bed = Bed::new();
    bed.upload("echo", &bed.write("echo.wat", ECHO));
    bed
}

#[test]
fn come_back_here_from_there_and_from_a_live_instance() {
    let bed = stocked();
    let _b = bed.node("b");
    let mut lines = vec!["Node.connect(b)".to_owned(), "Node.spawn(echo)".to_owned()];
    for (function, value) in CASES {
        lines.push(format!("echo.{function}({value})"));
        lines.push(format!("Node.run(b, echo.{function}({value}))"));
        lines.push(format!("i1.{function}({value})"));
    }
    let out = bed.eval(&lines).ok();
    let results: Vec<&str> = out.lines().skip(2).filter(|line| !line.starts_with("ID:  ")).collect();
    assert_eq!(results.len(), 3 * CASES.len(), "{out}");
    for ((function, value), results) in CASES.iter().zip(results.chunks(3)) {
        for result in results {
            assert_eq!(result, value, "{function}");
        }
    }
}

/// A list in a message of its own, and one of more bytes than a message has.
#[test]
fn large_ones_come_back_from_another_node() {
    let bed = stocked();
    let _b = bed.node("b");
    let numbers: Vec<String> = (0..30_000u32).map(|n| (n * 70_000).to_string()).collect();
    let value = format!("[{}]", numbers.join(", "));
    let mut running = bed.start_gvm::<&str>([]);
    running.write(format!("Node.connect(b)\nNode.run(b, echo.large({value}))\n").as_bytes());
    let out = running.finish().ok();
    assert!(out.lines().last() == Some(&value), "another value comes back");
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let bed = stocked();
    let _b = bed.node("b");
    for (call, message) in [
        ("echo.four([1, 2, 3])", "expected list<u8, 4>, found 3 elements"),
        ("echo.four([1, 2, 3, 4, 5])", "expected list<u8, 4>, found 5 elements"),
        ("echo.counts([(1, 1)])", "expected string, found a number"),
        ("echo.counts([(\"a\", -1)])", "`-1` is not a valid u32"),
        ("echo.counts({a: 1})", "write a map as a list of pairs"),
    ] {
        let there = format!("Node.run(b, {call})");
        for ended in [bed.eval([call]), bed.eval(["Node.connect(b)", &there])] {
            let err = ended.fails("BAD_ARGUMENTS");
            assert!(err.contains(message), "{call}: {err}");
        }
    }
}

#[test]
fn are_shown_and_printed_as_json() {
    let bed = stocked();
    let file = bed.write("again.wat", ECHO);
    let shown = bed.gvm(["inspect", file.to_str().unwrap()]).ok();
    for signature in ["func(v: map<u8, list<f64, 2>>) -> map<u8, list<f64, 2>>", "func(v: list<u8, 4>)"] {
        assert!(shown.contains(signature), "{shown}");
    }
    let ended = bed.eval(["--json", r#"echo.counts([("a", 1), ("b", 2)])"#, "echo.four([0, 1, 2, 3])"]);
    let results: Vec<String> = ended.json().iter().map(|line| line["result"].to_string()).collect();
    assert_eq!(results, [r#"[["a",1],["b",2]]"#, r#"{"base64":"AAECAw=="}"#]);
}
