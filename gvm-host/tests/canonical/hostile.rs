//! Guests that return values which the canonical ABI forbids.
//!
//! In: core functions with invalid results or a wrong `realloc`. Out: an error which says that the value is
//! invalid, never a panic. Must not know: nodes.

use gvm_host::internals::engine::canonical::{Args, Fault, typed};
use gvm_host::{Code, Effect, Error, List, Value};
use wasmtime::Store;
use wasmtime::component::{Component, Linker};

use super::ENGINE;
use super::component::MEMORY;

/// Calls a function without parameters. Its core code is `body`, and its memory has `data` at address 16.
fn call(ty: &str, core: &str, body: &str, data: &str, encoding: &str) -> wasmtime::Result<Option<Value>> {
    let text = format!(
        r#"(component
            (type $rec' (record (field "a" u8) (field "b" bool))) (export $rec "rec" (type $rec'))
            (type $one' (record (field "a" char))) (export $one "one" (type $one'))
            (type $var' (variant (case "a") (case "b" string) (case "c" f64))) (export $var "var" (type $var'))
            (type $enum' (enum "a" "b" "c")) (export $enum "enum" (type $enum'))
            (type $bare' (variant (case "a") (case "b"))) (export $bare "bare" (type $bare'))
            (type $flags' (flags "a" "b" "c")) (export $flags "flags" (type $flags'))
            (core module $main
                (memory (export "memory") 1)
                (data (i32.const 16) "{data}")
                (func (export "f") (result {core}) {body}))
            (core instance $main (instantiate $main))
            (func (export "f") (result {ty})
                (canon lift (core func $main "f") (memory $main "memory") string-encoding={encoding})))"#
    );
    let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let component = Component::new(&ENGINE, bytes).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    let mut store = Store::new(&ENGINE, ());
    let instance = Linker::new(&ENGINE).instantiate(&mut store, &component).unwrap();
    let func = instance.get_func(&mut store, "f").unwrap();
    typed(func).call(&mut store, Args(vec![])).map(|ret| ret.0)
}

/// Calls a function whose flat result is this number.
fn slot(ty: &str, value: i64) -> wasmtime::Result<Option<Value>> {
    call(ty, "i32", &format!("(i32.const {value})"), "", "utf8")
}

/// Calls a function whose result is `data`, in memory at address 16.
fn memory(ty: &str, data: &str) -> wasmtime::Result<Option<Value>> {
    call(ty, "i32", "(i32.const 16)", data, "utf8")
}

#[track_caller]
fn broken(result: wasmtime::Result<Option<Value>>) {
    let error = result.unwrap_err();
    let Some(fault @ Fault::Abi(_)) = error.downcast_ref::<Fault>() else { panic!("{error:?}") };
    let error = Error::from(fault.clone());
    assert_eq!((error.code(), error.effect()), (Code::Trap, Effect::RanAndFailed));
    assert!(error.message().starts_with("the guest breaks the canonical ABI: "), "{error}");
}

#[track_caller]
fn gives(result: wasmtime::Result<Option<Value>>, expected: Value) {
    assert_eq!(result.unwrap(), Some(expected));
}

#[test]
fn flat_results_are_checked() {
    gives(slot("bool", 2), Value::Bool(true));
    gives(slot("u8", 0x1ff), Value::U8(255));
    gives(slot("s8", 0x80), Value::S8(-128));
    gives(slot("s16", 0x1_8000), Value::S16(-32768));
    gives(slot("char", 0x10ffff), Value::Char('\u{10ffff}'));
    for bad in [0xd800, 0xdfff, 0x110000, -1] {
        broken(slot("char", bad));
        broken(slot("$one", bad));
    }
    gives(slot("$enum", 2), Value::Enum(2));
    broken(slot("$enum", 3));
    broken(slot("$enum", -1));
    gives(slot("$bare", 1), Value::Variant(1, None));
    broken(slot("$bare", 2));
    gives(slot("(result)", 1), Value::Result(Err(None)));
    broken(slot("(result)", 2));
    // The canonical ABI ignores bits beyond the labels.
    gives(slot("$flags", -1), Value::Flags(vec![0b111]));
}

#[test]
fn results_in_memory_are_checked() {
    gives(memory("$rec", r"\07\ff"), Value::Record(vec![Value::U8(7), Value::Bool(true)]));
    gives(memory("(option u8)", r"\01\09"), Value::Option(Some(Box::new(Value::U8(9)))));
    broken(memory("(option u8)", r"\02\09"));
    broken(memory("(result u8)", r"\02\09"));
    broken(memory("$var", r"\03"));
    broken(memory("(tuple $enum u8)", r"\03\00"));
    broken(memory("(tuple char u8)", r"\00\d8\00\00"));
    gives(memory("(tuple $flags u8)", r"\ff\01"), Value::Tuple(vec![Value::Flags(vec![7]), Value::U8(1)]));
}

#[test]
fn result_pointers_are_checked() {
    let at = |pointer: i64| call("(tuple u32 u32)", "i32", &format!("(i32.const {pointer})"), "", "utf8");
    gives(at(65528), Value::Tuple(vec![Value::U32(0), Value::U32(0)]));
    for bad in [2, 65532, 65536, -8, -4] {
        broken(at(bad));
    }
}

#[test]
fn strings_are_checked() {
    gives(memory("string", r"\18\00\00\00\02\00\00\00hi"), Value::String("hi".into()));
    broken(memory("string", r"\18\00\00\00\02\00\00\00\ff\ff"));
    broken(memory("string", r"\18\00\00\00\02\00\00\00\c0\80"));
    broken(memory("string", r"\18\00\00\00\03\00\00\00\ed\a0\80"));
    broken(memory("string", r"\ff\ff\ff\ff\01\00\00\00"));
    broken(memory("string", r"\18\00\00\00\ff\ff\ff\ff"));
    broken(memory("string", r"\ff\ff\00\00\02\00\00\00"));
    let utf16 = |data| call("string", "i32", "(i32.const 16)", data, "utf16");
    gives(utf16(r"\18\00\00\00\01\00\00\00\03\26"), Value::String("☃".into()));
    broken(utf16(r"\18\00\00\00\01\00\00\00\00\d8"));
    broken(utf16(r"\19\00\00\00\01\00\00\00\03\26"));
    broken(utf16(r"\18\00\00\00\ff\ff\ff\7f"));
    broken(utf16(r"\18\00\00\00\ff\ff\ff\ff"));
    let latin = |data| call("string", "i32", "(i32.const 16)", data, "latin1+utf16");
    gives(latin(r"\18\00\00\00\01\00\00\00\e9"), Value::String("é".into()));
    gives(latin(r"\18\00\00\00\01\00\00\80\03\26"), Value::String("☃".into()));
    broken(latin(r"\18\00\00\00\01\00\00\80\00\dc"));
    broken(latin(r"\18\00\00\00\ff\ff\ff\ff"));
}

#[test]
fn lists_are_checked() {
    gives(memory("(list u8)", r"\ff\ff\00\00\01\00\00\00"), Value::List(List::U8(vec![0].into())));
    gives(memory("(list f64)", r"\00\00\01\00\00\00\00\00"), Value::List(List::F64(vec![])));
    for ty in ["u8", "s16", "u32", "u64", "f32", "f64", "bool", "string", "(tuple u8 f64)", "$var"] {
        let list = format!("(list {ty})");
        broken(memory(&list, r"\ff\ff\ff\ff\01\00\00\00"));
        broken(memory(&list, r"\00\00\01\00\01\00\00\00"));
        broken(memory(&list, r"\00\00\00\00\ff\ff\ff\ff"));
        broken(memory(&list, r"\08\00\02\00\00\00\00\00"));
        if !matches!(ty, "u8" | "bool") {
            broken(memory(&list, r"\11\00\00\00\01\00\00\00"));
        }
    }
    broken(memory("(list $enum)", r"\18\00\00\00\02\00\00\00\00\03"));
    broken(memory("(list (option char))", r"\18\00\00\00\01\00\00\00\01\00\00\00\00\d8\00\00"));
}

#[test]
fn fixed_length_lists_are_checked() {
    gives(memory("(list u8 3)", r"\07\08\09"), Value::List(List::U8(vec![7, 8, 9].into())));
    gives(memory("(list s16 2)", r"\ff\ff\02\00"), Value::List(List::S16(vec![-1, 2])));
    gives(slot("(list s32 1)", -5), Value::List(List::S32(vec![-5])));
    broken(slot("(list char 1)", 0xd800));
    broken(memory("(list char 2)", r"\41\00\00\00\00\d8\00\00"));
    broken(memory("(list $enum 3)", r"\00\01\03"));
    let at = |ty: &str, pointer: i64| call(ty, "i32", &format!("(i32.const {pointer})"), "", "utf8");
    gives(at("(list u32 2)", 65528), Value::List(List::U32(vec![0, 0])));
    for bad in [2, 65532, 65536, -8, -4] {
        broken(at("(list u32 2)", bad));
    }
    // Far more elements than the memory has bytes.
    broken(at("(list u8 1000000000)", 0));
    broken(at("(list (list string 1000) 1000)", 0));
}

#[test]
fn maps_are_checked() {
    let entry = |key: &str, value: u8| Value::Tuple(vec![Value::String(key.into()), Value::U8(value)]);
    // Two entries of 12 bytes at 24, both with the key at 48.
    let two =
        r"\18\00\00\00\02\00\00\00\30\00\00\00\01\00\00\00\07\00\00\00\30\00\00\00\01\00\00\00\08\00\00\00k";
    let repeated = List::Values(vec![entry("k", 7), entry("k", 8)]);
    gives(memory("(map string u8)", two), Value::List(repeated));
    gives(memory("(map u8 u8)", r"\ff\ff\00\00\00\00\00\00"), Value::List(List::Values(vec![])));
    for ty in ["(map u8 u8)", "(map string u8)", "(map u64 $var)", "(map u32 (map u32 u32))"] {
        broken(memory(ty, r"\ff\ff\ff\ff\01\00\00\00"));
        broken(memory(ty, r"\00\00\01\00\01\00\00\00"));
        broken(memory(ty, r"\00\00\00\00\ff\ff\ff\ff"));
        if ty != "(map u8 u8)" {
            broken(memory(ty, r"\11\00\00\00\01\00\00\00"));
        }
    }
    broken(memory("(map u8 $enum)", r"\18\00\00\00\01\00\00\00\00\03"));
    broken(memory("(map char u8)", r"\18\00\00\00\01\00\00\00\00\d8\00\00\00"));
}

#[test]
fn what_the_host_spends_is_limited() {
    // 60,000 booleans fit in one page of memory, but take more than a megabyte as host values.
    let text = format!(
        r#"(component {MEMORY}
            (core module $main (import "" "memory" (memory 1))
                (data (i32.const 16) "\20\00\00\00\60\ea\00\00") (data (i32.const 1024) "\20\00\00\00\30\75\00\00")
                (func (export "f") (result i32) i32.const 16) (func (export "g") (result i32) i32.const 1024))
            (core instance $main (instantiate $main (with "" (instance $memory))))
            (func (export "bools") (result (list bool)) (canon lift (core func $main "f") (memory $memory "memory")))
            (func (export "map") (result (map u8 u8)) (canon lift (core func $main "g") (memory $memory "memory")))
            (func (export "fixed") (result (list bool 60000)) (canon lift (core func $main "g") (memory $memory "memory")))
            (func (export "numbers") (result (list u32 10000)) (canon lift (core func $main "g") (memory $memory "memory")))
            (func (export "bytes") (result (list u8)) (canon lift (core func $main "f") (memory $memory "memory")))
            (func (export "text") (result string) (canon lift (core func $main "f") (memory $memory "memory"))))"#
    );
    let component = Component::new(&ENGINE, wat::parse_str(&text).unwrap()).unwrap();
    for (name, fuel, fits) in [
        ("bools", 1 << 20, false),
        ("bools", 4 << 20, true),
        // 30,000 entries, each with two values.
        ("map", 2 << 20, false),
        ("map", 6 << 20, true),
        ("fixed", 1 << 20, false),
        ("fixed", 4 << 20, true),
        ("numbers", 39_999, false),
        ("numbers", 40_000, true),
        ("bytes", 59_999, false),
        ("bytes", 60_000, true),
        ("text", 59_999, false),
        ("text", 60_000, true),
    ] {
        let mut store = Store::new(&ENGINE, ());
        store.set_hostcall_fuel(fuel);
        let instance = Linker::new(&ENGINE).instantiate(&mut store, &component).unwrap();
        let func = instance.get_func(&mut store, name).unwrap();
        match typed(func).call(&mut store, Args(vec![])) {
            Ok(_) => assert!(fits, "{name} with {fuel}"),
            Err(error) => {
                assert!(!fits && matches!(error.downcast_ref(), Some(Fault::Fuel)), "{name}: {error:?}");
            }
        }
    }
}

/// Calls a function that takes a list, with this `realloc`; returns the error.
fn lowered(realloc: &str) -> wasmtime::Error {
    let text = format!(
        r#"(component
            (core module $main (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
                (func (export "f") (param i32 i32)))
            (core instance $main (instantiate $main))
            (func (export "f") (param "a" (list u64))
                (canon lift (core func $main "f") (memory $main "memory") (realloc (func $main "realloc")))))"#
    );
    let component = Component::new(&ENGINE, wat::parse_str(&text).unwrap()).unwrap();
    let mut store = Store::new(&ENGINE, ());
    let instance = Linker::new(&ENGINE).instantiate(&mut store, &component).unwrap();
    let func = instance.get_func(&mut store, "f").unwrap();
    let args = Args(vec![Value::List(List::U64(vec![1, 2, 3]))]);
    typed(func).call(&mut store, args).unwrap_err()
}

#[test]
fn a_bad_realloc_is_the_guests_fault() {
    for bad in ["i32.const 4", "i32.const 65528", "i32.const -8"] {
        let error = lowered(bad);
        assert!(matches!(error.downcast_ref(), Some(Fault::Abi(_))), "{error:?}");
    }
    let error = lowered("unreachable");
    assert_eq!(error.downcast_ref(), Some(&wasmtime::Trap::UnreachableCodeReached), "{error:?}");
    assert!(error.downcast_ref::<Fault>().is_none());
}
