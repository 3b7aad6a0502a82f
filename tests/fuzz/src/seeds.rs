//! Valid examples, from which mutations start.
//!
//! In: nothing. Out: the bytes of each file in `corpus`, by target and name. Must not know: how they are mutated.

use capnp::message::Builder;
use capnp::serialize::write_message_to_words;
use gvm_host::certificate::{NodeIdentity, certify};
use gvm_host::index::{Entry, Index};
use gvm_host::internals::trust::invitation::Line;
use gvm_host::internals::trust::roster_file;
use gvm_host::internals::wire as ours;
use gvm_host::internals::wire::call::Apart;
use gvm_host::internals::wire::hello::Hello;
use gvm_host::internals::wire::value::Parts;
use gvm_host::roster::{Role, Roster};
use gvm_host::{
    Applicant, Args, Call, Case, Code, Effect, Error, Field, FuncType, Hash, Home, Life, Limits, List,
    MapType, ModuleRef, NodeInfo, Outcome, ResultType, SecretKey, SessionRights, Target, Type, Value,
    inspect,
};

/// One file of the corpus: the target, a name, the content.
pub type Seed = (&'static str, String, Vec<u8>);

/// Returns the seeds. Keys are made anew each time, so the files differ in each run.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    texts(&mut seeds);
    messages(&mut seeds);
    files(&mut seeds);
    modules(&mut seeds);
    seeds
}

fn texts(seeds: &mut Vec<Seed>) {
    let mut add = |target, texts: &[&str]| {
        let named = texts.iter().enumerate();
        seeds.extend(named.map(|(index, text)| (target, format!("{index}"), text.as_bytes().to_vec())));
    };
    add(
        "call",
        &[
            "math.add(1, 2)",
            "Node.connect(kitchen)",
            "Node.run(kitchen@laptop, math.add(math.add(1, 2), Node.run(b, m.f(3))))",
            "Node.spawn(far, counter@1.0.0)",
            "\"wasi:http/types@0.2.0\".f({a: [1, 2], b: some(\"x\\u{1f30a}\")}, ok(-1.5e3), 'c')",
            "math@1.2.3.\"a:b/c\".f()",
            "help math.add",
            "Module.inspect(math) # a comment",
            "  exit  ",
            "a.b(\"unclosed",
        ],
    );
    add(
        "wave",
        &[
            "\u{5}-17",
            "\u{c}\"text \\n \\u{1f30a}\"",
            "\u{f}\u{2}[1, 2, 255]",
            "\u{13}\u{1}\u{6}\u{c}{n0: 7, n1: \"x\"}",
            "\u{11}\u{a}some(nan)",
            "\u{15}\u{1}\u{b}\u{0}ok('x')",
            "\u{e}\u{3}{n0, n2}",
            "\u{14}\u{1}\u{0}\u{1}\u{6}n1(4)",
        ],
    );
    add(
        "names",
        &[
            "kitchen",
            "kitchen@laptop",
            "*@laptop",
            "math.*",
            "study=*",
            "unix:/home/someone/.ghost-network/gpmd.sock",
            "tcp:127.0.0.1:5989",
            "tcp:[::1]:5989/0190e0a0-1111-4222-8333-444455556666/7",
            "1.2.3-alpha.1+build",
            "v0.0.1",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "\u{1b}[31mred\u{1b}]0;title\u{7}\r\n\u{9b}6n",
        ],
    );
    add(
        "lines",
        &["n0", "https://relay.example.org", &relay(), &invitation(Some(&relay())), &invitation(None)],
    );
}

fn relay() -> String {
    let relay =
        gvm_host::relay::Own { host: "relay.example.org".into(), port: 443, pin: [7; 16], token: [9; 16] };
    gvm_host::relay::Relay::Own(relay).to_string()
}

fn invitation(relay: Option<&str>) -> String {
    let line = Line {
        inviter: SecretKey::generate().unwrap().public(),
        secret: gvm_host::Secret::random(),
        expires: 1_900_000_000,
        addresses: vec!["192.0.2.7:5989".parse().unwrap(), "[2001:db8::7]:5989".parse().unwrap()],
        relay: relay.map(|relay| relay.parse().unwrap()),
    };
    line.to_string()
}

fn words<O: capnp::traits::Owned>(write: impl FnOnce(O::Builder<'_>)) -> Vec<u8> {
    let mut builder = Builder::new_default();
    write(builder.init_root());
    write_message_to_words(&builder)
}

fn life() -> Life {
    Life { id: uuid(7), incarnation: 3 }
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

fn node() -> NodeInfo {
    let mut builder = Builder::new_default();
    let applicant = Applicant {
        name: Some("kitchen".parse().unwrap()),
        life: life(),
        addresses: vec!["unix:/home/x/nodes/kitchen.sock".into(), "tcp:127.0.0.1:4000".into()],
        accepts: Vec::new(),
    };
    ours::hello::write_applicant(&applicant, builder.init_root());
    ours::hello::read_node(builder.get_root_as_reader().unwrap()).unwrap()
}

/// A type with each kind of part, and a value of it.
fn everything() -> (Type, Value) {
    let name = |text: &str| text.into();
    let ty = Type::Record(
        [
            ("flag", Type::Bool),
            ("text", Type::String),
            ("bytes", Type::List(Type::U8.into())),
            ("floats", Type::List(Type::F64.into())),
            ("names", Type::List(Type::String.into())),
            ("maybe", Type::Option(Type::Char.into())),
            ("kind", Type::Enum([name("a"), name("b")].into())),
            ("set", Type::Flags([name("x"), name("y"), name("z")].into())),
            (
                "choice",
                Type::Variant(
                    [Case { name: name("none"), ty: None }, Case { name: name("some"), ty: Some(Type::S64) }]
                        .into(),
                ),
            ),
            ("outcome", Type::Result(ResultType { ok: Some(Type::U32), err: Some(Type::String) }.into())),
            ("pair", Type::Tuple([Type::S8, Type::F32].into())),
            ("fixed", Type::FixedList(Type::U16.into(), 3)),
            ("map", Type::Map(MapType { key: Type::String, value: Type::Bool }.into())),
        ]
        .into_iter()
        .map(|(field, ty)| Field { name: name(field), ty })
        .collect(),
    );
    let value = Value::Record(vec![
        Value::Bool(true),
        Value::String("grüße".into()),
        Value::List(List::U8(vec![1, 2, 3].into())),
        Value::List(List::F64(vec![1.5, -2.0])),
        Value::List(List::Values(vec![Value::String("one".into()), Value::String(String::new())])),
        Value::Option(Some(Box::new(Value::Char('☃')))),
        Value::Enum(1),
        Value::Flags(vec![5]),
        Value::Variant(1, Some(Box::new(Value::S64(-9)))),
        Value::Result(Err(Some(Box::new(Value::String("no".into()))))),
        Value::Tuple(vec![Value::S8(-1), Value::F32(0.5)]),
        Value::List(List::U16(vec![1, 2, 3])),
        Value::List(List::Values(vec![Value::Tuple(vec![Value::String("key".into()), Value::Bool(true)])])),
    ]);
    value.check(&ty).unwrap();
    (ty, value)
}

fn calls() -> Vec<Call> {
    let stored = || ModuleRef::stored("math".parse().unwrap());
    let limits =
        Limits { memory: Some(1 << 20), output: Some(1 << 16), fuel: Some(1000), ..Limits::default() };
    vec![
        Call::new(Target::function(stored(), "add"), Args::Values(vec![Value::S32(1), Value::S32(2)])),
        Call::new(Target::main(stored()), Args::Argv(vec!["one".into(), "two".into()])).limits(limits),
        Call::new(Target::function(stored(), "f").interface("a:b/c@1.0.0"), Args::Text("1, \"x\"".into()))
            .above(vec![uuid(1), uuid(2)])
            .want_type(true),
        Call::new(
            Target::function(ModuleRef::Bytes(b"\0asm\x01\0\0\0"[..].to_vec().into()), "f"),
            Args::Values(vec![everything().1]),
        ),
    ]
}

fn outcomes() -> Vec<Outcome> {
    let error = Error::new(Code::Trap, "wasm `unreachable` instruction executed")
        .with_effect(Effect::RanAndFailed)
        .with_context("  at f")
        .with_help("try again");
    let mut value = Outcome::failed(Error::internal("replaced"));
    value.result = Ok(Some(everything().1));
    vec![Outcome::failed(error), value]
}

fn messages(seeds: &mut Vec<Seed>) {
    let mut add = |target, name: String, bytes: Vec<u8>| seeds.push((target, name, bytes));
    let hello = Hello { node: Some(node()), expected: Some(life()), ..Hello::of(gvm_host::HomeId([5; 16])) };
    let hello = words::<ours::schema::hello_capnp::hello::Owned>(|to| ours::hello::write(&hello, to));
    let info =
        words::<ours::schema::hello_capnp::node_info::Owned>(|to| ours::hello::write_node(&node(), to));
    add("hello", "hello".into(), hello.clone());
    add("hello", "node".into(), info.clone());
    add("messages", "node".into(), info);

    let mut frames = vec![8];
    let mut frame = |id: u64, kind: u64, message: &[u8], parts: u64| {
        for number in [id, (message.len() / 8) as u64 | kind << 32, parts] {
            frames.extend(number.to_le_bytes());
        }
        frames.extend(message);
    };
    for (index, call) in calls().into_iter().enumerate() {
        let bytes = words::<ours::schema::node_capnp::call::Owned>(|to| {
            ours::call::write(&call, &Apart::default(), index == 0, to);
        });
        frame(index as u64, 1, &bytes, 0);
        add("wire_call", format!("{index}"), bytes);
    }
    for (index, outcome) in outcomes().into_iter().enumerate() {
        let bytes = words::<ours::schema::node_capnp::outcome::Owned>(|to| {
            ours::call::write_outcome(&outcome, None, &[], to);
        });
        frame(index as u64, 2, &bytes, 0);
        add("outcome", format!("{index}"), bytes);
    }
    frame(1, 3, &[], 0);
    add("channel", "small".into(), frames);
    add("channel", "large".into(), large_call());

    let error = Error::new(Code::NodeNotFound, "no node is named `x`");
    add(
        "outcome",
        "error".into(),
        words::<ours::schema::error_capnp::error::Owned>(|to| ours::error::write(&error, to)),
    );
    let rights = SessionRights { calls: Some(vec!["math.*".into()]), expires_ms: Some(1_900_000_000_000) };
    add(
        "outcome",
        "grant".into(),
        words::<ours::schema::node_capnp::grant::Owned>(|to| ours::grant::write(&rights, to)),
    );

    let (ty, value) = everything();
    let bytes = words::<ours::schema::value_capnp::value::Owned>(|to| {
        ours::value::write(&value, to, &mut Parts::inline());
    });
    add("value", "value".into(), bytes);
    add(
        "value",
        "type".into(),
        words::<ours::schema::value_capnp::type_::Owned>(|to| ours::value::write_type(&ty, to)),
    );
    let func = FuncType {
        params: [Field { name: "a".into(), ty: ty.clone() }].into(),
        result: Some(Type::List(ty.into())),
    };
    add(
        "value",
        "function".into(),
        words::<ours::schema::value_capnp::func_type::Owned>(|to| ours::value::write_func(&func, to)),
    );

    for (name, values) in [("small", vec![value.clone()]), ("large", vec![value, large_value()])] {
        let shape = ours::large::take_apart(values).shape;
        add("shape", name.into(), [&[3][..], &shape].concat());
    }
    add("shape", "text".into(), [&[0][..], &ours::large::take_text_apart("1, 2").shape].concat());
    for index in 0..8u8 {
        let bytes = (0..96u8).map(|byte| byte.wrapping_mul(index).wrapping_add(index));
        add(
            "canonical",
            format!("{index}"),
            [index % 3, index % 2, 15 + index % 7].into_iter().chain(bytes).collect(),
        );
    }
}

fn large_value() -> Value {
    Value::List(List::U8(vec![7; 70_000].into()))
}

/// A call on a channel whose argument follows it in parts.
fn large_call() -> Vec<u8> {
    let (large, contents) = ours::large::take_apart(vec![large_value()]).to_follow();
    let call = calls().remove(0);
    let parts: u64 = contents.iter().map(|content| content.bytes().len().next_multiple_of(8) as u64).sum();
    let apart = Apart { args: Some(large), module: None };
    let message =
        words::<ours::schema::node_capnp::call::Owned>(|to| ours::call::write(&call, &apart, false, to));
    let mut bytes = vec![255];
    let head = |length: usize, kind: u64, parts: u64| {
        [9, length as u64 | kind << 32, parts].into_iter().flat_map(u64::to_le_bytes).collect::<Vec<_>>()
    };
    bytes.extend(head(message.len() / 8, 1, parts));
    bytes.extend(&message);
    for content in contents {
        let mut part = content.bytes().to_vec();
        part.resize(part.len().next_multiple_of(8), 0);
        bytes.extend(head(part.len(), 4, 0));
        bytes.extend(part);
    }
    bytes
}

fn files(seeds: &mut Vec<Seed>) {
    let math =
        inspect::to_binary(b"(module (func (export \"add\") (param i32 i32) (result i32) local.get 0))")
            .unwrap();
    let info = inspect::inspect(&math).unwrap();
    let mut index = Index::default();
    for (name, version) in [("math", "1.0.0"), ("math", "1.1.0"), ("values", "0.1.0-alpha")] {
        let entry =
            Entry::new(Hash::of(version.as_bytes()), math.len() as u64, &info, "2026-01-01T00:00:00Z".into());
        index.add(&name.parse().unwrap(), &version.parse().unwrap(), entry).unwrap();
    }
    seeds.push(("index", "three".into(), index.to_json().unwrap().into_bytes()));
    seeds.push(("index", "empty".into(), Index::default().to_json().unwrap().into_bytes()));

    let folder = tempfile::tempdir().unwrap();
    let home = Home::open(folder.path().join("home")).unwrap();
    let [laptop, pi, guest] = [(); 3].map(|()| SecretKey::generate().unwrap());
    let mut roster = Roster::found(&laptop, "laptop".parse().unwrap(), 1).unwrap();
    roster.admit(&laptop, pi.public(), "pi".parse().unwrap(), Role::Member, 2).unwrap();
    roster.admit(&pi, guest.public(), "guest".parse().unwrap(), Role::Guest, 3).unwrap();
    roster.remove(&laptop, guest.public(), 4).unwrap();
    roster_file::write(&home, &roster).unwrap();
    seeds.push(("roster", "three".into(), std::fs::read(home.roster()).unwrap()));

    let node = NodeIdentity { device: laptop.public().id(), name: "study".parse().unwrap(), life: life() };
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
    seeds.push(("certificate", "node".into(), certify(&laptop, &pi.public(), &node, now).unwrap()));
}

fn modules(seeds: &mut Vec<Seed>) {
    let texts = [
        ("core", "(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32)))
            (memory (export \"memory\") 1) (table 2 funcref) (global (mut i32) (i32.const 1)) (data (i32.const 0) \"x\")
            (func $f (export \"f\") (param i32 f64) (result i32) (block (br_if 0 (local.get 0))) (i32.const 1))
            (elem (i32.const 0) $f) (func (export \"_start\")))"),
        ("gc", "(module (type $s (struct (field i32) (field (mut i64)))) (type $a (array (mut i8))) (tag $e (param i32))
            (func (export \"f\") (result i32) (struct.get $s 0 (struct.new $s (i32.const 1) (i64.const 2)))))"),
        ("component", "(component (core module $m (memory (export \"memory\") 1) (func (export \"f\") (result i32) i32.const 0)
            (func (export \"r\") (param i32 i32 i32 i32) (result i32) i32.const 8))
            (core instance $i (instantiate $m))
            (type $r' (record (field \"a\" u8) (field \"b\" (list string)))) (export $r \"r\" (type $r'))
            (func (export \"f\") (result $r) (canon lift (core func $i \"f\") (memory (core memory $i \"memory\")))))"),
        ("imports", "(component (import \"wasi:io/error@0.2.0\" (instance $e (export \"error\" (type (sub resource)))))
            (import \"wasi:cli/stdin@0.2.0\" (instance)) (component $c (type (option u8))) (instance (instantiate $c)))"),
    ];
    for (name, text) in texts {
        seeds.push(("module", name.into(), wat::parse_str(text).unwrap()));
        seeds.push(("module", format!("{name}-text"), text.as_bytes().to_vec()));
    }
}
