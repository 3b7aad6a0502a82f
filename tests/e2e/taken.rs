//! Which modules are accepted: a module that cannot run is refused with a clear message when it is stored or
//! inspected; a module that can run is stored, even if the WIT tools cannot show it.
//!
//! In: valid modules that cannot run here, and unusual ones that can. Out: the same answer from `inspect`,
//! `upload` and `run`. Must not know: the engine.

use std::time::Instant;

use crate::bed::Bed;
use crate::guests;

/// Modules that need a feature that GVM does not run, each with a part of the error message.
const REFUSED: &[(&str, &str)] = &[
    ("(module (memory 1 1 shared) (func (export \"f\")))", "needs threads, which GVM does not run"),
    ("(module (import \"e\" \"m\" (memory 1 1 shared)))", "needs threads, which GVM does not run"),
    ("(component (core module (memory 1 1 shared)))", "needs threads, which GVM does not run"),
    ("(module (memory 1 (pagesize 1)))", "needs custom page sizes, which GVM does not run"),
    (
        "(module (func (param i64 i64) (result i64 i64) (i64.mul_wide_s (local.get 0) (local.get 1))))",
        "needs wide arithmetic, which GVM does not run",
    ),
    ("(component (type error-context))", "error contexts of the component model, which GVM does not run"),
    ("(component (import \"a\" (component)))", "root-level component imports"),
    ("(component (component $c) (export \"c\" (component $c)))", "exporting a component from the root"),
];

#[test]
fn what_cannot_run_is_refused_in_plain_words() {
    let bed = Bed::new();
    for (number, (wat, words)) in REFUSED.iter().enumerate() {
        let file = bed.write(&format!("m{number}.wat"), wat);
        let path = file.to_str().unwrap();
        let upload = ["wasm", "upload", "--name=m", "--version=1.0.0", &format!("--file={path}")];
        for ended in [bed.gvm(["inspect", path]), bed.gpmd(upload), bed.run(["--invoke", "f()", path])] {
            let err = ended.fails("MODULE_INVALID");
            assert!(err.contains(words), "{wat}: {err}");
            for engine in ["Config::", "Engine", "wasmtime"] {
                assert!(!err.contains(engine), "{wat}: {err}");
            }
        }
        let json = bed.gvm(["run", "--json", "--invoke", "f()", path]);
        if let Some(line) = json.json().first() {
            assert_eq!(line["error"]["outcome"], "not-started", "{wat}");
        }
    }
    assert_eq!(bed.gpmd(["wasm", "list", "--json"]).ok(), "[]\n", "no refused module is stored");
}

/// Valid components on which the WIT tools panic, each with a call and its result.
const NO_WIT: &[(&str, &str, &str)] = &[
    (
        r#"(component (core module $m (func (export "f") (result i32) i32.const 7)) (core instance $i (instantiate $m))
            (func (export "a:b/c") (result u32) (canon lift (core func $i "f"))))"#,
        "\"a:b/c\"()",
        "7",
    ),
    (
        r#"(component (core module $m (func (export "f") (result i32) i32.const 8)) (core instance $i (instantiate $m))
            (func (export "f") (result u32) (canon lift (core func $i "f")))
            (import "foo" (instance $foo (type $r' (enum "x" "y")) (export "r" (type (eq $r')))))
            (alias export $foo "r" (type $r))
            (import "bar" (instance (export "r" (type (eq $r))))))"#,
        "f()",
        "8",
    ),
];

#[test]
fn what_runs_is_stored_though_its_wit_cannot_be_shown() {
    let bed = Bed::new();
    for (number, (wat, call, result)) in NO_WIT.iter().enumerate() {
        let name = format!("m{number}");
        let file = bed.write(&format!("{name}.wat"), wat);
        let path = file.to_str().unwrap();
        let inspected = bed.gvm(["inspect", path]);
        assert_eq!(
            (inspected.status, inspected.err()),
            (Some(0), String::new()),
            "the panic of the WIT tools is not shown"
        );
        assert!(inspected.out().starts_with("component\n"), "{}", inspected.out());
        assert_eq!(bed.gvm(["inspect", "--json", path]).json()[0]["wit"], serde_json::Value::Null);
        bed.upload(&name, &file);
        assert_eq!(bed.eval([format!("{name}.{call}")]).ok(), format!("{result}\n"));
        assert_eq!(bed.run(["--invoke", call, path]).ok(), format!("{result}\n"));
        let shown = bed.gpmd(["wasm", "show", &name]);
        assert_eq!((shown.status, shown.err()), (Some(0), String::new()));
    }
    let file = bed.write("c.wat", "(component (import \"wasi:http/types\" (func)))");
    let inspected = bed.gvm(["inspect", file.to_str().unwrap()]);
    assert_eq!((inspected.status, inspected.err()), (Some(0), String::new()));
}

#[test]
fn imports_that_nobody_serves_are_told_before_compiling() {
    let bed = Bed::new();
    // Compiling this much code takes many times as long as checking its imports.
    let functions = "(func (param i64) (result i64) ".to_owned()
        + &"(i64.add (local.get 0) ".repeat(400)
        + "(i64.const 1)"
        + &")".repeat(400)
        + ")";
    let wat = format!(
        "(module (import \"env\" \"wanted\" (func)) {} (func (export \"f\")))",
        functions.repeat(1500)
    );
    let file = bed.write("wants.wat", wat);
    let upload = bed.gpmd([
        "wasm",
        "upload",
        "--name=wants",
        "--version=1.0.0",
        &format!("--file={}", file.display()),
    ]);
    assert_eq!(upload.out(), "Module Uploaded Successfully!\n");
    assert!(upload.err().contains("`env.wanted`"), "{}", upload.err());
    let started = Instant::now();
    for ended in [bed.eval(["wants.f()"]), bed.run(["--invoke", "f()", file.to_str().unwrap()])] {
        let err = ended.fails("IMPORT_UNSATISFIED");
        assert!(
            err.contains("`env.wanted`, which no node offers")
                || err.contains("no node offers: `env.wanted`"),
            "{err}"
        );
    }
    eprintln!("told twice in {:?}", started.elapsed());
    assert_eq!(bed.compiled(), 0, "imports are checked before a module is compiled");
}

/// For an import that is offered with another type, the error names the import and how the types differ.
#[test]
fn imports_of_another_type_are_told_by_name() {
    let bed = Bed::bare();
    for (wat, import, how) in [
        (
            "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32))))",
            "`wasi_snapshot_preview1.fd_write` with another type",
            "(func (param i32))",
        ),
        (
            "(component (import \"wasi:cli/environment@0.2.0\" (instance (export \"oops\" (func)))))",
            "`oops` of `wasi:cli/environment@0.2.0`, which no node offers",
            "",
        ),
        (
            "(component (import \"wasi:cli/environment@0.2.0\" (instance (export \"get-arguments\" (func (result u32))))))",
            "`get-arguments` of `wasi:cli/environment@0.2.0` with another type",
            "expected `list` found `u32`",
        ),
        (
            "(module (import \"wasi_snapshot_preview1\" \"sched_yield\" (func (result i32)))
                (import \"wasi_snapshot_preview1\" \"fd_close\" (global i32)))",
            "`wasi_snapshot_preview1.fd_close` with another type",
            "not a function",
        ),
        (
            "(component (import \"wasi:cli/stdin@0.2.0\" (instance))
                (import \"wasi:random/random@0.2.3\" (instance
                    (export \"get-random-u64\" (func (result u64)))
                    (export \"get-random-bytes\" (func (param \"len\" u32) (result (list u8)))))))",
            "`get-random-bytes` of `wasi:random/random@0.2.3` with another type",
            "expected `u64` found `u32`",
        ),
        (
            "(component (import \"wasi:random/random@0.2.3\" (instance (export \"r\" (type (sub resource))))))",
            "with another type",
            "resource implementation is missing",
        ),
    ] {
        let file = bed.write("m.wat", wat);
        let err = bed.run(["--invoke", "f()", file.to_str().unwrap()]).fails("IMPORT_UNSATISFIED");
        assert!(err.contains(import) && err.contains(how) && !err.contains("linker"), "{err}");
    }
}

#[test]
fn limits_are_told_with_their_numbers() {
    let bed = Bed::stocked();
    let big = guests::wat("big-results");
    let big = big.to_str().unwrap();
    for options in [&[][..], &["--fuel", "100000000000"]] {
        let err = bed.run([options, &["--invoke", "strs(10000000)", big]].concat()).fails("LIMIT_EXCEEDED");
        assert!(err.contains("160.0 MiB") && !err.contains("fuel"), "{err}");
    }
    let memories = format!("(module {} (func (export \"f\")))", "(memory 1)".repeat(65));
    let file = bed.write("memories.wat", memories);
    let err = bed.run(["--invoke", "f()", file.to_str().unwrap()]).fails("LIMIT_EXCEEDED");
    assert!(err.contains("65 memories") && err.contains("limit is 64"), "{err}");
    // A node and the node of a single command have the same limits.
    let ninety =
        bed.write("ninety.wat", format!("(module {} (func (export \"f\")))", "(table 1 funcref)".repeat(99)));
    bed.run(["--invoke", "f()", ninety.to_str().unwrap()]).ok();
    bed.upload("ninety", &ninety);
    bed.eval(["ninety.f()"]).ok();
    let _b = bed.node("b");
    bed.eval(["Node.connect(b)", "Node.run(b, ninety.f())"]).ok();
}

/// The same limit applies in a node and in the node of a single command.
#[test]
fn too_many_core_instances_are_refused_before_compiling() {
    let bed = Bed::new();
    let instances = "(core instance (instantiate $m))".repeat(257);
    let file = bed.write("many.wat", format!("(component (core module $m) {instances})"));
    bed.upload("many", &file);
    let _b = bed.node("b");
    let path = file.to_str().unwrap();
    for ended in [
        bed.run(["--json", "--invoke", "f()", path]),
        bed.run(["--json", "--node", "b", "--invoke", "f()", path]),
        bed.eval(["--json", "many.f()"]),
    ] {
        let json = ended.json();
        let error = &json.last().unwrap()["error"];
        assert_eq!((&error["code"], &error["outcome"]), (&"LIMIT_EXCEEDED".into(), &"not-started".into()));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("257 core instances") && message.contains("limit is 256"), "{message}");
    }
    assert_eq!(bed.compiled(), 0, "limits are checked before a module is compiled");
}

#[test]
fn resource_handles_have_a_limit() {
    let bed = Bed::bare();
    // Resources that the guest defines, and resources of the host.
    for (name, words, wat) in [
        (
            "own.wat",
            "10000 resource handles",
            r#"(component
                (type $r (resource (rep i32)))
                (core func $new (canon resource.new $r))
                (core module $m (import "" "new" (func $new (param i32) (result i32)))
                    (func (export "f") (loop (drop (call $new (i32.const 1))) (br 0))))
                (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
                (func (export "f") (canon lift (core func $i "f"))))"#,
        ),
        (
            "host.wat",
            "resources of its host",
            r#"(component
                (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
                (alias export $poll "pollable" (type $pollable))
                (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                    (export "pollable" (type (eq $pollable)))
                    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
                (core func $new (canon lower (func $clock "subscribe-duration")))
                (core module $m (import "" "new" (func $new (param i64) (result i32)))
                    (func (export "f") (loop (drop (call $new (i64.const 1))) (br 0))))
                (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
                (func (export "f") (canon lift (core func $i "f"))))"#,
        ),
    ] {
        let file = bed.write(name, wat);
        let err = bed.run(["--invoke", "f()", file.to_str().unwrap()]).fails("LIMIT_EXCEEDED");
        assert!(err.contains(words), "{name}: {err}");
    }
}

/// This fails when wasmtime changes the one error text that GVM recognises (`engine/fault.rs`).
#[test]
fn arguments_for_the_host_have_a_limit() {
    let bed = Bed::bare();
    let wat = r#"(component
        (import "gvm:node/nodes@0.1.0" (instance $nodes
            (type $effect' (enum "not-started" "ran-and-failed" "unknown"))
            (export "effect" (type $effect (eq $effect')))
            (type $error' (record (field "code" string) (field "message" string) (field "outcome" $effect)))
            (export "error" (type $error (eq $error')))
            (export "connect" (func (param "name" string) (result (result (error $error)))))))
        (core module $libc (memory (export "memory") 2800)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64)))
        (core instance $libc (instantiate $libc))
        (core func $connect (canon lower (func $nodes "connect")
            (memory $libc "memory") (realloc (func $libc "realloc"))))
        (core module $m (import "" "connect" (func $connect (param i32 i32 i32)))
            (func (export "f") (param i32) (call $connect (i32.const 0) (local.get 0) (i32.const 0))))
        (core instance $i (instantiate $m (with "" (instance (export "connect" (func $connect))))))
        (func (export "f") (param "bytes" u32) (canon lift (core func $i "f"))))"#;
    let file = bed.write("hands.wat", wat);
    let path = file.to_str().unwrap();
    let bytes = 160 << 20;
    bed.run(["--invoke", &format!("f({bytes})"), path]).ok();
    let err = bed.run(["--invoke", &format!("f({})", bytes + 1), path]).fails("LIMIT_EXCEEDED");
    assert!(err.contains("160.0 MiB") && err.contains("to its host in one call"), "{err}");
    assert!(!err.contains("fuel"), "{err}");
    bed.run(["--invoke", &format!("f({})", 2801 << 16), path]).fails("TRAP");
}

/// What the check before compiling accepts, a node's slots accept too (`engine/room.rs`, `engine/config.rs`).
#[test]
fn a_node_has_room_for_what_is_compiled() {
    let bed = Bed::new();
    let _b = bed.node("b");
    let globals = |count: usize| "(global i32 (i32.const 0))".repeat(count);
    let core = |count| format!("(module {} (func (export \"f\")))", globals(count));
    let most = (4 << 20) / 16;
    let many = format!(
        "(component (core module $m {} (func (export \"f\"))) {} (core instance $i (instantiate $m))
            (func (export \"f\") (canon lift (core func $i \"f\"))))",
        globals(1000),
        "(core instance (instantiate $m))".repeat(255)
    );
    let fits = [bed.write("core.wat", core(most - 100)), bed.write("many.wat", many)];
    for file in fits {
        bed.run(["--node", "b", "--invoke", "f()", file.to_str().unwrap()]).ok();
    }
    let large = bed.write("large.wat", core(most));
    let err = bed.run(["--node", "b", "--invoke", "f()", large.to_str().unwrap()]).fails("LIMIT_EXCEEDED");
    assert!(err.contains("limit of a node is 4.0 MiB"), "{err}");
    // A command of its own may have more; what it compiles is in the home, and the node still refuses it.
    let larger = bed.write("larger.wat", core(most / 2 * 3));
    bed.run(["--invoke", "f()", larger.to_str().unwrap()]).ok();
    let err = bed.run(["--node", "b", "--invoke", "f()", larger.to_str().unwrap()]).fails("LIMIT_EXCEEDED");
    assert!(err.contains("limit of a node is 4.0 MiB"), "{err}");
    let wide = bed.write("wide.wat", "(module (memory i64 65537) (func (export \"f\")))");
    let wide = ["--max-memory", "8GiB", "--node", "b", "--invoke", "f()", wide.to_str().unwrap()];
    let err = bed.run(wide).fails("LIMIT_EXCEEDED");
    assert!(err.contains("limit of a node is 4.0 GiB"), "{err}");
}
