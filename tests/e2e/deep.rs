//! Input that nests too deep gives an error with a code; the process survives.
//!
//! In: calls, values, types, modules and files with thousands of levels. Out: an error code. Must not know:
//! how each kind of input is parsed.

use std::path::Path;

use crate::bed::{Bed, GVM};
use crate::guests;
use crate::process::Running;

/// Returns `middle` with `depth` copies of `before` in front of it and `depth` copies of `after` behind it.
fn nested(before: &str, middle: &str, after: &str, depth: usize) -> String {
    before.repeat(depth) + middle + &after.repeat(depth)
}

/// Runs the text as a script, because it is too long for a process argument.
#[track_caller]
fn script(bed: &Bed, text: &str) -> crate::process::Ended {
    let mut running = Running::start(&mut bed.command(GVM));
    running.write(text.as_bytes());
    running.finish()
}

#[test]
fn calls_in_calls() {
    let bed = Bed::stocked();
    let calls = |depth| nested("math.add(1, ", "1", ")", depth);
    assert!(script(&bed, &calls(101)).ok().ends_with("\n102\n"), "100 calls inside another call are allowed");
    for depth in [102, 400, 100_000] {
        let err = script(&bed, &calls(depth)).fails("SYNTAX");
        assert!(err.contains("calls nest too deep") && err.contains('^'), "{err}");
    }
    let there = nested("Node.run(b, math.add(1, ", "1", "))", 5000);
    script(&bed, &format!("math.add(1, {there})")).fails("SYNTAX");
    let quoted = format!("Node.run(b, \"{}\")", calls(5000).replace('"', "\\\""));
    script(&bed, &quoted).fails("SYNTAX");
}

#[test]
fn values_in_values() {
    let bed = Bed::stocked();
    let _b = bed.node("b");
    for (before, after) in [("[", "]"), ("(", ")"), ("{a: ", "}"), ("some(", ")"), ("ok(", ")"), ("x(", ")")]
    {
        for depth in [101, 5000, 200_000] {
            let value = nested(before, "1", after, depth);
            script(&bed, &format!("values.echo-string({value})")).fails("BAD_ARGUMENTS");
            let there = format!("Node.connect(b)\nNode.run(b, values.echo-string({value}))");
            script(&bed, &there).fails("BAD_ARGUMENTS");
            script(&bed, &format!("values.echo-string({})", before.repeat(depth))).fails("SYNTAX");
        }
    }
}

/// Returns a component with an option type of `depth` levels; its function `id` returns its argument.
fn options(depth: usize) -> String {
    let types: String =
        (1..=depth).map(|depth| format!("(type $t{depth} (option $t{}))", depth - 1)).collect();
    format!(
        r#"(component (type $t0 u8) {types}
            (core module $m (memory (export "memory") 1) (global $p (mut i32) (i32.const 1024))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $r i32)
                    (local.set $r (global.get $p))
                    (global.set $p (i32.add (local.get $r) (local.get 3))) (local.get $r))
                (func (export "id") (param i32) (result i32) local.get 0))
            (core instance $i (instantiate $m))
            (func (export "id") (param "x" $t{depth}) (result $t{depth})
                (canon lift (core func $i "id") (memory $i "memory") (realloc (func $i "realloc")))))"#
    )
}

#[test]
fn types_in_types() {
    let mut bed = Bed::new();
    bed.upload("deep", &bed.write("deep.wat", options(97)));
    let _b = bed.node("b");
    let value = nested("some(", "7", ")", 97);
    assert_eq!(script(&bed, &format!("deep.id({value})")).ok(), format!("{value}\n"));
    let there = script(&bed, &format!("Node.connect(b)\nNode.run(b, deep.id({value}))")).ok();
    assert!(there.ends_with(&format!("{value}\n")), "{there}");
    let json =
        Running::start(bed.command(GVM).args(["--json", "eval", &format!("deep.id({value})")])).finish();
    // In JSON, the innermost option is the bare number.
    let mut inner = &json.json()[0]["result"];
    let mut levels = 0;
    while let Some(some) = inner.get("some") {
        (inner, levels) = (some, levels + 1);
    }
    assert_eq!((inner.as_u64(), levels), (Some(7), 96));
    // Types may not nest this deep in a component.
    let file = bed.write("deeper.wat", options(101));
    bed.gvm(["inspect", file.to_str().unwrap()]).fails("MODULE_INVALID");
    bed.kill_gpmd();
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], leb(content.len()), content.to_vec()].concat()
}

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Returns a component with nested component types (0x41) or instance types (0x42).
fn instance_types(kind: u8, depth: usize) -> Vec<u8> {
    let types = [vec![1], [kind, 1, 1].repeat(depth), vec![0x40, 0, 1, 0]].concat();
    [COMPONENT, &section(7, &types)].concat()
}

/// Returns nested components.
fn components(depth: usize) -> Vec<u8> {
    (0..depth).fold(COMPONENT.to_vec(), |inner, _| [COMPONENT, &section(4, &inner)].concat())
}

#[test]
fn modules() {
    let bed = Bed::new();
    let hostile = [
        ("instances.wasm", instance_types(0x42, 100_000)),
        ("components.wasm", instance_types(0x41, 100_000)),
        ("nested.wasm", components(10_000)),
        ("parens.wat", "(".repeat(1_000_000).into_bytes()),
        ("nested.wat", nested("(component ", "", ")", 10_000).into_bytes()),
        ("types.wat", nested("(component (type (instance ", "", ")))", 10_000).into_bytes()),
    ];
    for (name, bytes) in hostile {
        let file = bed.write(name, bytes);
        let file = file.to_str().unwrap();
        bed.gvm(["inspect", file]).fails("MODULE_INVALID");
        bed.run([file]).fails("MODULE_INVALID");
        let upload = ["wasm", "upload", "--name=x", "--version=1.0.0", &format!("--file={file}")];
        bed.gpmd(upload).fails("MODULE_INVALID");
        bed.gpmd(["status"]).ok();
    }
    // Deeply nested code is valid, unlike deeply nested types: it runs.
    let code = nested("(i32.add (i32.const 1) ", "(i32.const 1)", ")", 2_000);
    let file = bed.write("code.wat", format!("(module (func (export \"f\") (result i32) {code}))"));
    assert_eq!(bed.run(["--invoke", "f()", file.to_str().unwrap()]).ok(), "2001\n");
}

/// A function may have a mangled name with many levels. Its trap is reported in short lines.
#[test]
fn names_of_functions() {
    let bed = Bed::bare();
    for name in [
        nested("_RIC1aR", "uE", "", 1),
        format!("_R{}u", "Y".repeat(60_000)),
        format!("_ZN{}E", "1a".repeat(50_000)),
    ] {
        let wat = format!("(module (func (@name \"{name}\") (export \"f\") unreachable))");
        let file = bed.write("name.wat", wat);
        let err = bed.run(["--invoke", "f()", file.to_str().unwrap()]).fails("TRAP");
        assert!(err.lines().all(|line| line.len() < 400), "{err}");
    }
}

#[test]
fn files_of_the_home() {
    let bed = Bed::stocked();
    let file = |name: &str, text: String| std::fs::write(bed.home().join(name), text).unwrap();
    file("config.toml", format!("accept = {}", nested("[", "", "]", 100_000)));
    bed.eval(["Node.list()"]).fails("SYNTAX");
    std::fs::remove_file(bed.home().join("config.toml")).unwrap();
    file("ghost.modules.json", nested("{\"modules\": ", "1", "}", 100_000));
    bed.gpmd(["wasm", "list"]).fails("MODULE_CORRUPT");
}

/// A guest with the `nodes` grant asks its node for a call with up to 100,000 levels.
#[test]
fn calls_of_guests() {
    let bed = Bed::stocked();
    let mut peer = bed.node("peer");
    let deep = guests::wat("deep-call");
    for levels in [10, 101, 5_000, 100_000] {
        let text = format!("go({levels})");
        let mut run = bed.command(GVM);
        run.args(["run", "--grant", "nodes", "--invoke", &text]).arg::<&Path>(&deep);
        // 1 means that the guest received an error and continued.
        assert_eq!(Running::start(&mut run).finish().ok(), "1\n", "{levels}");
    }
    assert_eq!(peer.ask("math.add(1, 2)").trim(), "Adding Numbers From Wasm...");
}
