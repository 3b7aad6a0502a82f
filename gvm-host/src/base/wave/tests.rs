//! Compares our parser and printer with `wasm-wave`, and with each other.

use std::sync::Arc;

use wasm_wave::untyped::UntypedFuncCall;
use wasm_wave::value as theirs;

use super::{Misread, parse, parse_args, print};
use crate::base::value::{Case, Field, FuncType, List, MapType, ResultType, Type, Value};

fn list(ty: Type) -> Type {
    Type::List(Arc::new(ty))
}

fn fixed(ty: Type, length: u32) -> Type {
    Type::FixedList(Arc::new(ty), length)
}

fn map(key: Type, value: Type) -> Type {
    Type::Map(Arc::new(MapType { key, value }))
}

fn option(ty: Type) -> Type {
    Type::Option(Arc::new(ty))
}

fn result(ok: Option<Type>, err: Option<Type>) -> Type {
    Type::Result(Arc::new(ResultType { ok, err }))
}

fn record<const N: usize>(fields: [(&str, Type); N]) -> Type {
    Type::Record(fields.map(|(name, ty)| Field { name: name.into(), ty }).into())
}

/// The parameters of the functions that the case files call.
fn params(function: &str) -> Vec<Type> {
    let basic = || record([("required", Type::U8), ("optional", option(Type::U8))]);
    let case = |name: &str, ty| Case { name: name.into(), ty };
    vec![match function {
        "nothing" => return vec![],
        "two" => return vec![Type::U8, option(Type::String)],
        "bool" => Type::Bool,
        "s8" => Type::S8,
        "u8" => Type::U8,
        "s16" => Type::S16,
        "u16" => Type::U16,
        "s32" => Type::S32,
        "u32" => Type::U32,
        "s64" => Type::S64,
        "u64" => Type::U64,
        "f32" => Type::F32,
        "f64" => Type::F64,
        "char" => Type::Char,
        "string" => Type::String,
        "strings" => list(Type::String),
        "bytes" => list(Type::U8),
        "floats" => list(Type::F64),
        "four" => fixed(Type::U8, 4),
        "map" => map(Type::String, Type::U8),
        "maps" => map(Type::U8, map(Type::Char, fixed(Type::Bool, 2))),
        "option" => option(Type::U8),
        "nested" => option(option(Type::U8)),
        "result" => result(None, None),
        "ok-only" => result(Some(Type::U8), None),
        "err-only" => result(None, Some(Type::U8)),
        "both" => result(Some(Type::U8), Some(Type::String)),
        "tuple" => Type::Tuple([Type::U8, Type::String].into()),
        "one" => Type::Tuple([Type::U8].into()),
        "record" => basic(),
        "records" => list(basic()),
        "options" => record([("a", option(Type::U8)), ("b", option(Type::U8))]),
        "keywords" => record([("true", Type::Bool), ("none", option(Type::U8)), ("nan", Type::F32)]),
        "variant" => Type::Variant(
            [
                case("off", None),
                case("on", Some(Type::U8)),
                case("true", Some(Type::F64)),
                case("none", None),
            ]
            .into(),
        ),
        "enum" => Type::Enum(["left".into(), "RIGHT-hand-2".into(), "some".into()].into()),
        "flags" => Type::Flags(["read".into(), "write".into()].into()),
        other => panic!("no such function: {other}"),
    }]
}

fn signature(function: &str) -> FuncType {
    let fields = params(function).into_iter().zip(["a", "b"]);
    FuncType { params: fields.map(|(ty, name)| Field { name: name.into(), ty }).collect(), result: None }
}

fn their_type(ty: &Type) -> theirs::Type {
    use theirs::Type as T;
    match ty {
        Type::Bool => T::BOOL,
        Type::S8 => T::S8,
        Type::U8 => T::U8,
        Type::S16 => T::S16,
        Type::U16 => T::U16,
        Type::S32 => T::S32,
        Type::U32 => T::U32,
        Type::S64 => T::S64,
        Type::U64 => T::U64,
        Type::F32 => T::F32,
        Type::F64 => T::F64,
        Type::Char => T::CHAR,
        Type::String => T::STRING,
        Type::List(ty) => T::list(their_type(ty)),
        Type::FixedList(ty, length) => T::fixed_length_list(their_type(ty), *length),
        Type::Map(map) => T::list(their_type(&map.entry())),
        Type::Record(fields) => T::record(fields.iter().map(|f| (&*f.name, their_type(&f.ty)))).unwrap(),
        Type::Tuple(types) => T::tuple(types.iter().map(their_type).collect::<Vec<_>>()).unwrap(),
        Type::Variant(cases) => {
            T::variant(cases.iter().map(|c| (&*c.name, c.ty.as_ref().map(their_type)))).unwrap()
        }
        Type::Enum(names) => T::enum_ty(names.iter().map(|name| &**name)).unwrap(),
        Type::Option(ty) => T::option(their_type(ty)),
        Type::Result(ty) => T::result(ty.ok.as_ref().map(their_type), ty.err.as_ref().map(their_type)),
        Type::Flags(names) => T::flags(names.iter().map(|name| &**name)).unwrap(),
        Type::Unsupported(name) => panic!("{name}"),
    }
}

/// Returns the calls of a case file: the function, and the text between the parentheses.
fn cases(file: &str) -> impl Iterator<Item = (&str, &str)> {
    let calls = file.trim_end().trim_end_matches(';').split(";\n");
    calls.map(|call| {
        let (function, rest) = call.split_once('(').unwrap();
        (function, rest.strip_suffix(')').unwrap_or(rest))
    })
}

/// Returns what `wasm-wave` prints for the same text.
fn their_print(function: &str, text: &str) -> Option<Vec<String>> {
    if text.trim().is_empty() || text.starts_with("//") {
        return None;
    }
    let types: Vec<_> = params(function).iter().map(their_type).collect();
    let call = format!("f({text}\n)");
    let values = UntypedFuncCall::parse(&call).ok()?.to_wasm_params::<theirs::Value>(&types).ok()?;
    Some(values.iter().map(|value| wasm_wave::to_string(value).unwrap()).collect())
}

#[test]
fn accepts_what_wasm_wave_accepts_and_prints_the_same() {
    let mut count = 0;
    for (function, text) in cases(include_str!("../../../tests/wave/accept.waves")) {
        let values = parse_args(text, &signature(function));
        let values = values.unwrap_or_else(|error| panic!("{function}({text}): {error}"));
        let types = params(function);
        assert_eq!(values.len(), types.len());
        let printed: Vec<_> = values.iter().zip(&types).map(|(value, ty)| print(value, ty)).collect();
        for ((text, value), ty) in printed.iter().zip(&values).zip(&types) {
            value.check(ty).unwrap();
            let again = parse(text, ty).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(format!("{again:?}"), format!("{value:?}"), "{text}");
        }
        if let Some(theirs) = their_print(function, text) {
            assert_eq!(printed, theirs, "{function}({text})");
        }
        count += 1;
    }
    assert!(count > 100, "{count} cases");
}

#[test]
fn rejects_invalid_text_and_points_into_it() {
    let mut count = 0;
    for (function, text) in cases(include_str!("../../../tests/wave/reject.waves")) {
        match parse_args(text, &signature(function)) {
            Ok(values) => panic!("{function}({text}): {values:?}"),
            Err(Misread { span, message, .. }) => {
                assert!(span.start <= span.end && span.end <= text.len(), "{function}({text}): {span:?}");
                assert!(!message.is_empty());
            }
        }
        count += 1;
    }
    assert!(count > 70, "{count} cases");
}

#[track_caller]
fn points(text: &str, func: &str, expected: &str) {
    let misread = parse_args(text, &signature(func)).unwrap_err();
    assert_eq!(format!("{}\n{}", misread.message, misread.point(text)), expected);
}

#[test]
fn a_caret_shows_the_place() {
    points("1, 2", "two", "expected string, found a number\n  1, 2\n     ^");
    points("300", "u8", "`300` is not a valid u8\n  300\n  ^^^");
    points("", "u8", "missing argument `a: u8`\n  \n  ^");
    points("1, \"a\", ☃", "two", "cannot parse `☃`\n  1, \"a\", ☃\n          ^");
    points(
        "{required: 1, optinal: 2}",
        "record",
        "unknown field `optinal`: did you mean `optional`?\n  {required: 1, optinal: 2}\n                ^^^^^^^",
    );
    points("{read, exec}", "flags", "unknown flag `exec`\n  {read, exec}\n         ^^^^");
    points("\n1,\n  \"x", "two", "cannot parse `\"x`\n    \"x\n    ^^");
    points("1 2", "u8", "unexpected `2`\n  1 2\n    ^");
    // The carets mark whole words.
    points("0x10", "u8", "unexpected `0x10`\n  0x10\n  ^^^^");
    points("True", "bool", "unexpected `True`\n  True\n  ^^^^");
    // In columns, not characters.
    points(
        "1, \"世界\", x",
        "two",
        "too many arguments: the function takes 2\n  1, \"世界\", x\n             ^",
    );
}

#[test]
fn messages_suggest_names_and_help_shows_the_notation() {
    let says = |text: &str, function: &str, message: &str| {
        let misread = parse_args(text, &signature(function)).unwrap_err();
        assert!(misread.message.contains(message), "{text}: {}", misread.message);
    };
    let helps = |text: &str, function: &str, message: &str, help: &str| {
        let error = parse_args(text, &signature(function)).unwrap_err().into_error(text);
        assert_eq!((error.message(), error.help()), (message, Some(help)), "{text}");
    };
    says("{requird: 1}", "record", "unknown field `requird`: did you mean `required`?");
    says("{optional: 1}", "record", "missing field `required: u8`");
    says("lft", "enum", "did you mean `left`?");
    says("onn(1)", "variant", "did you mean `on`?");
    says("{reed}", "flags", "did you mean `read`?");
    says("sme(1)", "option", "unknown case `sme`: did you mean `some`?");
    says("sme(1)", "nested", "unknown case `sme`: did you mean `some`?");
    says("okk(1)", "both", "unknown case `okk`: did you mean `ok`?");
    says("eror(1)", "both", "unknown case `eror`: did you mean `err`?");
    says("off(1)", "variant", "the case `off` takes no payload");
    says("on", "variant", "the case `on` needs a payload of type u8");
    helps("abc", "string", "expected string, found the word `abc`", "write a string in double quotes");
    let quotes = "write a char as one character in single quotes, and a string in double quotes";
    let misread = parse_args("'abc'", &signature("string")).unwrap_err();
    assert_eq!(misread.help.as_deref(), Some(quotes), "{misread}");
    helps("\"a\"", "char", "expected char, found a string", "write a char in single quotes");
    helps("yes", "bool", "expected bool, found the word `yes`", "write `true` or `false`");
    helps("{exec}", "flags", "unknown flag `exec`", "use one of: read, write");
    helps(
        "{optinal: 2}",
        "record",
        "unknown field `optinal`: did you mean `optional`?",
        "use one of: required, optional",
    );
    says("[1, 2, 3]", "four", "expected list<u8, 4>, found 3 elements");
    says("[[1], 2, 3, 4]", "four", "expected u8, found a list");
    says("[(\"a\", \"b\")]", "map", "expected u8, found a string");
    says("[(\"a\", 1, 2)]", "map", "expected 2 elements, found 3");
    let pairs = "write a map as a list of pairs: `[(key, value), (key, value)]`";
    helps("{a: 1}", "map", "expected map<string, u8>, found a record", pairs);
    let escapes = "end the string with `\"`; the escapes are `\\\\`, `\\\"`, `\\'`, `\\t`, `\\r`, `\\n` and `\\u{1f47b}`";
    helps("\"x", "string", "cannot parse `\"x`", escapes);
}

#[test]
fn a_resource_is_refused() {
    let ty = Type::Unsupported("own<file>".into());
    assert_eq!(parse("1", &ty).unwrap_err().message, "a value of type `own<file>` cannot be written as text");
    assert_eq!(print(&Value::U8(1), &list(ty)), "1");
    assert_eq!(print(&Value::Enum(3), &Type::Enum(["a".into()].into())), "<enum>");
    assert_eq!(print(&Value::Record(vec![]), &Type::Bool), "<record>");
}

#[test]
fn depth_is_bounded() {
    let text = "[".repeat(100_000);
    assert!(parse(&text, &list(Type::U8)).is_err());
}

#[test]
fn a_mebibyte_prints_quickly() {
    let bytes = Value::List(List::U8((0..1 << 20).map(|n| n as u8).collect()));
    let text = print(&bytes, &list(Type::U8));
    // The best of three, because other tests run at the same time.
    let took = (0..3).map(|_| {
        let start = std::time::Instant::now();
        print(&bytes, &list(Type::U8));
        start.elapsed()
    });
    let took = took.min().unwrap();
    println!("{took:?}");
    assert!(text.starts_with("[0, 1, 2, ") && text.ends_with(", 254, 255]"));
    assert!(took.as_millis() < 100, "{took:?}");
    assert_eq!(parse(&text, &list(Type::U8)).unwrap(), bytes);
}
