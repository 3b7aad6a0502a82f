use super::*;
use crate::repl::assist::known::Nodes;
use gvm_host::Place as Lives;
use gvm_host::index::Index;
use gvm_host::inspect::Kind;
use gvm_host::names::TypeNames;
use gvm_host::{Hash, parse_version};

fn entry(main: bool, exports: &[&str]) -> Entry {
    let exports = exports.iter().map(|export| (*export).to_owned()).collect();
    let uploaded = "2026-01-01T00:00:00Z".to_owned();
    Entry {
        sha256: Hash::of(&[]),
        size: 1,
        kind: Kind::Core,
        main,
        exports,
        types: TypeNames::default(),
        uploaded,
    }
}

/// A home with `math`, `values` and `hello`, an instance of `math`, three nodes.
pub fn known() -> Known {
    let mut index = Index::default();
    let mut add = |name: &str, entry| {
        index.add(&name.parse().unwrap(), &parse_version("1.0.0").unwrap(), entry).unwrap();
    };
    add("math", entry(true, &["_start: func()", "add: func(a: s32, b: s32) -> s32", "zero: func() -> s32"]));
    add(
        "values",
        entry(
            false,
            &[
                "sum: func(of: list<u8>) -> u64",
                "paint: func(c: enum { red, green }, on: bool)",
                "tree: func(t: list<record { name: string, branches: variant { cut, grown(u8) } }>)",
                "t:v/left@1.0.0#side: func() -> string",
                "t:v/right@1.0.0#side: func() -> string",
            ],
        ),
    );
    add("odd", entry(false, &["a b: func(x: s32)", "q\"(: func()"]));
    add("hello", entry(true, &["wasi:cli/run@0.2.6#run: func() -> result"]));
    let lives = Lives { node: Some("node-2".parse().unwrap()), module: "math@1.0.0".into() };
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    Known {
        index: index.into(),
        instances: vec![("i1".parse().unwrap(), lives)],
        nodes: Nodes {
            own: Some("node-1".parse().unwrap()),
            live: names(&["node-1", "node-2", "node-3"]),
            connected: names(&["node-2"]),
        },
    }
}

fn offered(line: &str) -> Vec<(String, String)> {
    suggestions(&Place::at_end(line), line, &known())
        .into_iter()
        .map(|found| {
            (format!("{}{}", &line[..found.span.start], found.value), found.description.unwrap_or_default())
        })
        .collect()
}

#[track_caller]
fn values(line: &str) -> Vec<String> {
    offered(line).into_iter().map(|(value, _)| value).collect()
}

#[test]
fn functions_come_with_their_signatures() {
    assert_eq!(
        offered("math."),
        [
            ("math.add(".to_owned(), "(a: s32, b: s32) -> s32".to_owned()),
            ("math.zero()".to_owned(), "() -> s32".to_owned())
        ]
    );
    assert_eq!(values("math@1.0.0.a"), ["math@1.0.0.add("]);
    assert_eq!(values("math@9.9.9.a"), [""; 0]);
    assert_eq!(values("i1.a"), ["i1.add("]);
    assert_eq!(values("values.le"), ["values.left.side()"]);
    assert_eq!(values("values.left."), ["values.left.side()"]);
    assert_eq!(values("hello."), [""; 0], "its main is called by its name");
}

#[test]
fn statements_begin_with_names() {
    assert_eq!(values(""), ["i1", "hello", "math", "odd", "values", "Node.", "Module.", "help", "exit"]);
    assert_eq!(offered("ma"), [("math".to_owned(), "1.0.0  a program; add, zero".to_owned())]);
    assert_eq!(offered("i")[0].1, "live: math@1.0.0 on node-2");
    assert_eq!(values("Node.dis"), ["Node.discover()", "Node.disconnect("]);
    assert_eq!(values("Module."), ["Module.list()", "Module.inspect("]);
    assert_eq!(values("help ma"), ["help math"]);
    assert_eq!(values("help math.a"), ["help math.add"]);
}

#[test]
fn nodes_where_they_make_sense() {
    assert_eq!(values("Node.connect("), ["Node.connect(node-3"]);
    assert_eq!(values("Node.disconnect(n"), ["Node.disconnect(node-2"]);
    assert_eq!(values("Node.run("), ["Node.run(node-1", "Node.run(node-2"]);
    assert_eq!(offered("Node.run(")[1].1, "connected");
    assert_eq!(values("Node.spawn(n"), ["Node.spawn(node-1", "Node.spawn(node-2"]);
    assert_eq!(values("Node.drop("), ["Node.drop(i1"]);
    assert_eq!(values("Node.discover("), [""; 0]);
}

#[test]
fn inside_other_calls() {
    assert_eq!(values("Node.run(node-2, ma"), ["Node.run(node-2, math"]);
    assert_eq!(values("Node.run(node-2, math.a"), ["Node.run(node-2, math.add("]);
    assert_eq!(values("math.add(1, ma"), ["math.add(1, math"]);
    assert_eq!(values("math.add(math.a"), ["math.add(math.add("]);
    assert_eq!(values("math.add(1, No"), ["math.add(1, Node.run("]);
    assert_eq!(values("math.add(Node.run(node-2, math.a"), ["math.add(Node.run(node-2, math.add("]);
    assert_eq!(values("Node.spawn(node-2, ma"), ["Node.spawn(node-2, math"]);
    assert_eq!(values("Module.inspect(h"), ["Module.inspect(hello"]);
    assert_eq!(values("values.paint(r"), ["values.paint(red"]);
    assert_eq!(values("values.paint(red, t"), ["values.paint(red, true"]);
    assert_eq!(values("values.sum([ma"), [""; 0], "a list holds no calls");
    assert_eq!(values("math.add(\"ma"), [""; 0]);
    assert_eq!(values("values.tree([{b"), ["values.tree([{branches: "]);
    assert_eq!(
        values("values.tree([{branches: "),
        ["values.tree([{branches: cut", "values.tree([{branches: grown("]
    );
    assert_eq!(values("math.add(math@"), ["math.add(math@1.0.0"]);
}

#[test]
fn what_is_nearly_right_is_offered() {
    assert_eq!(values("mth"), ["math"]);
    assert_eq!(values("Mat"), ["math"]);
    assert_eq!(values("math.ada"), ["math.add("]);
    assert_eq!(values("values.ain"), ["values.paint("], "from within");
    assert_eq!(values("values.si"), ["values.left.side()", "values.right.side()"], "without its interface");
    assert_eq!(values("Node.lst")[0], "Node.list()");
    assert_eq!(values("q"), [""; 0]);
}

#[test]
fn versions_interfaces_and_topics() {
    assert_eq!(offered("math@"), [("math@1.0.0".to_owned(), "a program; add, zero".to_owned())]);
    assert_eq!(values("math@2"), [""; 0]);
    assert_eq!(values("values.\""), ["values.\"t:v/left@1.0.0\".", "values.\"t:v/right@1.0.0\"."]);
    assert_eq!(values("values.\"t:v/r"), ["values.\"t:v/right@1.0.0\"."]);
    assert_eq!(values("values.\"t:v/right@1.0.0\"."), ["values.\"t:v/right@1.0.0\".side()"]);
    assert_eq!(values("odd.a"), ["odd.\"a b\"("]);
    assert_eq!(values("odd.\"q"), ["odd.\"q\\\"(\"()"]);
    assert_eq!(values("help No"), ["help Node"]);
    assert_eq!(values("help Node.disc"), ["help Node.discover", "help Node.disconnect"]);
}
