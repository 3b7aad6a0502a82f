//! Generates components for a signature.
//!
//! In: types. Out: the text of a component that passes its arguments to a host function `host` of the same
//! signature and returns the result. The flat forms are computed here independently, from the specification
//! of the canonical ABI. Must not know: GVM's lift and lower.

use std::fmt::Write;

use gvm_host::Type;

/// Declares types and assigns a name to each.
#[derive(Default)]
pub struct Types {
    pub text: String,
    count: usize,
}

impl Types {
    /// Declares the type if needed and returns its name in the text. Types that must have a name in WIT are
    /// imported, as the component model requires.
    pub fn name(&mut self, ty: &Type) -> String {
        let (body, named) = match ty {
            Type::List(ty) => (format!("(list {})", self.name(ty)), false),
            Type::FixedList(ty, length) => (format!("(list {} {length})", self.name(ty)), false),
            Type::Map(map) => (format!("(map {} {})", self.name(&map.key), self.name(&map.value)), false),
            Type::Option(ty) => (format!("(option {})", self.name(ty)), false),
            Type::Tuple(types) => {
                let names: Vec<_> = types.iter().map(|ty| self.name(ty)).collect();
                (format!("(tuple {})", names.join(" ")), false)
            }
            Type::Result(ty) => {
                let ok = self.optional(&ty.ok);
                let err = ty.err.as_ref().map(|ty| format!("(error {})", self.name(ty)));
                (format!("(result {ok} {})", err.unwrap_or_default()), false)
            }
            Type::Record(fields) => {
                let fields = fields.iter().map(|f| format!("(field \"{}\" {})", f.name, self.name(&f.ty)));
                (format!("(record {})", fields.collect::<String>()), true)
            }
            Type::Variant(cases) => {
                let cases = cases.iter().map(|c| format!("(case \"{}\" {})", c.name, self.optional(&c.ty)));
                (format!("(variant {})", cases.collect::<String>()), true)
            }
            Type::Enum(names) => (format!("(enum {})", quoted(names)), true),
            Type::Flags(names) => (format!("(flags {})", quoted(names)), true),
            simple => return simple.to_string(),
        };
        let name = self.count;
        self.count += 1;
        writeln!(self.text, "(type $d{name} {body})").unwrap();
        if !named {
            return format!("$d{name}");
        }
        writeln!(self.text, "(import \"t{name}\" (type $t{name} (eq $d{name})))").unwrap();
        format!("$t{name}")
    }

    fn optional(&mut self, ty: &Option<Type>) -> String {
        ty.as_ref().map(|ty| self.name(ty)).unwrap_or_default()
    }
}

fn quoted(names: &[std::sync::Arc<str>]) -> String {
    names.iter().map(|name| format!("\"{name}\" ")).collect()
}

/// Returns the core types of a type's flat form.
pub fn flatten(ty: &Type) -> Vec<&'static str> {
    match ty {
        Type::S64 | Type::U64 => vec!["i64"],
        Type::F32 => vec!["f32"],
        Type::F64 => vec!["f64"],
        Type::String | Type::List(_) | Type::Map(_) => vec!["i32", "i32"],
        Type::FixedList(ty, length) => flatten(ty).repeat(*length as usize),
        Type::Record(fields) => fields.iter().flat_map(|field| flatten(&field.ty)).collect(),
        Type::Tuple(types) => types.iter().flat_map(flatten).collect(),
        Type::Variant(cases) => flatten_cases(cases.iter().map(|case| case.ty.as_ref())),
        Type::Option(ty) => flatten_cases([None, Some(&**ty)]),
        Type::Result(ty) => flatten_cases([ty.ok.as_ref(), ty.err.as_ref()]),
        _ => vec!["i32"],
    }
}

fn flatten_cases<'a>(cases: impl IntoIterator<Item = Option<&'a Type>>) -> Vec<&'static str> {
    let mut joined: Vec<&'static str> = Vec::new();
    for case in cases.into_iter().flatten() {
        for (index, core) in flatten(case).into_iter().enumerate() {
            match joined.get_mut(index) {
                None => joined.push(core),
                Some(other) if *other == core => {}
                Some(other) if matches!((*other, core), ("i32", "f32") | ("f32", "i32")) => *other = "i32",
                Some(other) => *other = "i64",
            }
        }
    }
    joined.insert(0, "i32");
    joined
}

/// A memory and a `realloc` that allocates each block after the last one and frees nothing.
pub const MEMORY: &str = r#"(core module $memory
    (memory (export "memory") 2)
    (global $top (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and
            (i32.add (global.get $top) (i32.sub (local.get 2) (i32.const 1)))
            (i32.xor (i32.sub (local.get 2) (i32.const 1)) (i32.const -1))))
        (global.set $top (i32.add (local.get $at) (local.get 3)))
        (if (i32.gt_u (global.get $top) (i32.shl (memory.size) (i32.const 16)))
            (then (drop (memory.grow (i32.shr_u (local.get 3) (i32.const 15))))
                  (drop (memory.grow (i32.const 1)))))
        (memory.copy (local.get $at) (local.get 0) (local.get 1))
        (local.get $at))
)
(core instance $memory (instantiate $memory))
"#;

/// Returns a component whose `call` forwards to `host` through the component's memory, in this string
/// encoding.
pub fn echo(params: &[Type], result: &Type, encoding: &str) -> String {
    let mut types = Types::default();
    let names: Vec<_> = params.iter().map(|ty| types.name(ty)).collect();
    let named: String =
        names.iter().enumerate().map(|(i, name)| format!("(param \"p{i}\" {name})")).collect();
    let result_name = types.name(result);

    let flat: Vec<_> = params.iter().flat_map(flatten).collect();
    let core_params = if flat.len() > 16 { "i32".to_owned() } else { flat.join(" ") };
    let count = if flat.len() > 16 { 1 } else { flat.len() };
    let pass: String = (0..count).map(|index| format!("(local.get {index})")).collect();
    let flat_result = flatten(result);
    let (host_core, body, call_result) = match flat_result.as_slice() {
        [one] => (format!("(param {core_params}) (result {one})"), format!("(call $host {pass})"), *one),
        _ => (
            format!("(param {core_params} i32)"),
            // The result area has 64 KiB; generated types are far smaller.
            format!(
                "(local.set $area (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 65536))) \
                 (call $host {pass} (local.get $area)) (local.get $area)"
            ),
            "i32",
        ),
    };
    format!(
        r#"(component
{types}
(import "host" (func $host {named} (result {result_name})))
{MEMORY}
(core func $host' (canon lower (func $host) (memory $memory "memory")
    (realloc (func $memory "realloc")) string-encoding={encoding}))
(core module $main
    (import "" "host" (func $host {host_core}))
    (import "" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (func (export "call") (param {core_params}) (result {call_result}) (local $area i32) {body}))
(core instance $main (instantiate $main (with "" (instance
    (export "host" (func $host')) (export "realloc" (func $memory "realloc"))))))
(func (export "call") {named} (result {result_name})
    (canon lift (core func $main "call") (memory $memory "memory")
        (realloc (func $memory "realloc")) string-encoding={encoding}))
)"#,
        types = types.text
    )
}

/// Returns a component whose async `call` returns its argument: its parameters and its result have the same form, up to 16
/// slots or else a pointer.
#[allow(dead_code, reason = "the fuzz targets share this file and do not use it")]
pub fn async_echo(ty: &Type, encoding: &str) -> String {
    let mut types = Types::default();
    let name = types.name(ty);
    let flat = flatten(ty);
    let core = if flat.len() > 16 { "i32".to_owned() } else { flat.join(" ") };
    let count = if flat.len() > 16 { 1 } else { flat.len() };
    let pass: String = (0..count).map(|index| format!("(local.get {index})")).collect();
    format!(
        r#"(component
{types}
{MEMORY}
(core func $return (canon task.return (result {name}) (memory $memory "memory") string-encoding={encoding}))
(core module $main
    (import "" "return" (func $return (param {core})))
    (func (export "call") (param {core}) (result i32) (call $return {pass}) (i32.const 0))
    (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
(core instance $main (instantiate $main (with "" (instance (export "return" (func $return))))))
(func (export "call") async (param "p0" {name}) (result {name})
    (canon lift (core func $main "call") async (callback (func $main "callback")) (memory $memory "memory")
        (realloc (func $memory "realloc")) string-encoding={encoding}))
)"#,
        types = types.text
    )
}

/// Returns a component whose core function returns `slot`. If the result type needs a pointer, `slot` is an
/// address in a memory that begins with `words`.
pub fn noise(result: &Type, words: &[u32], slot: u32, encoding: &str) -> String {
    let mut types = Types::default();
    let name = types.name(result);
    let (core, value) = match flatten(result).as_slice() {
        [one] => (*one, if *one == "i32" { slot.cast_signed().to_string() } else { slot.to_string() }),
        _ => ("i32", slot.cast_signed().to_string()),
    };
    let bytes: String =
        words.iter().flat_map(|word| word.to_le_bytes()).map(|b| format!("\\{b:02x}")).collect();
    format!(
        r#"(component
{types}
(core module $main
    (memory (export "memory") 1)
    (data (i32.const 0) "{bytes}")
    (func (export "call") (result {core}) {core}.const {value}))
(core instance $main (instantiate $main))
(func (export "call") (result {name})
    (canon lift (core func $main "call") (memory $main "memory") string-encoding={encoding}))
)"#,
        types = types.text
    )
}
