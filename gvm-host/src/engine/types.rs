//! Converts wasmtime's types into ours, and core values in both directions.
//!
//! In: the type of a component's or a core module's function. Out: the [`FuncType`] that parsers, printers and peers
//! use. A type that cannot be passed becomes [`Type::Unsupported`] with its name, so a signature can be shown even
//! if the function cannot be called. Must not know: memory, instances, text.

use std::sync::Arc;

use wasmtime::component::types as component;
use wasmtime::{Val, ValType};

use crate::base::error::{Code, Error, Result};
use crate::base::value::{Case, Field, FuncType, MapType, ResultType, Type, Value};
use crate::modules::signature;

/// Returns the signature of a component's function.
pub fn component_func(func: &component::ComponentFunc) -> FuncType {
    let params = func.params().map(|(name, ty)| Field { name: name.into(), ty: component_type(&ty) });
    let mut results: Vec<Type> = func.results().map(|ty| component_type(&ty)).collect();
    FuncType { params: params.collect(), result: one_or_tuple(&mut results) }
}

/// Returns the signature of a core function. Its parameters get the names `p0`, `p1`, …
pub fn core_func(func: &wasmtime::FuncType) -> FuncType {
    let params = func.params().enumerate();
    let params = params.map(|(index, ty)| Field { name: format!("p{index}").into(), ty: core_type(&ty) });
    let mut results: Vec<Type> = func.results().map(|ty| core_type(&ty)).collect();
    FuncType { params: params.collect(), result: one_or_tuple(&mut results) }
}

fn one_or_tuple(results: &mut Vec<Type>) -> Option<Type> {
    match results.len() {
        0 | 1 => results.pop(),
        _ => Some(Type::Tuple(std::mem::take(results).into())),
    }
}

/// Converts a component's value type.
pub fn component_type(ty: &component::Type) -> Type {
    use component::Type as From;
    match ty {
        From::Bool => Type::Bool,
        From::S8 => Type::S8,
        From::U8 => Type::U8,
        From::S16 => Type::S16,
        From::U16 => Type::U16,
        From::S32 => Type::S32,
        From::U32 => Type::U32,
        From::S64 => Type::S64,
        From::U64 => Type::U64,
        From::Float32 => Type::F32,
        From::Float64 => Type::F64,
        From::Char => Type::Char,
        From::String => Type::String,
        From::List(list) => Type::List(Arc::new(component_type(&list.ty()))),
        From::Record(record) => Type::Record(
            record.fields().map(|f| Field { name: f.name.into(), ty: component_type(&f.ty) }).collect(),
        ),
        From::Tuple(tuple) => Type::Tuple(tuple.types().map(|ty| component_type(&ty)).collect()),
        From::Variant(variant) => {
            Type::Variant(variant.cases().map(|c| Case { name: c.name.into(), ty: optional(c.ty) }).collect())
        }
        From::Enum(names) => Type::Enum(names.names().map(Arc::from).collect()),
        From::Option(option) => Type::Option(Arc::new(component_type(&option.ty()))),
        From::Result(result) => {
            Type::Result(Arc::new(ResultType { ok: optional(result.ok()), err: optional(result.err()) }))
        }
        From::Flags(flags) => Type::Flags(flags.names().map(Arc::from).collect()),
        From::Own(_) => unsupported("own<resource>"),
        From::Borrow(_) => unsupported("borrow<resource>"),
        From::Future(future) => unsupported(signature::of("future", optional(future.ty()))),
        From::Stream(stream) => unsupported(signature::of("stream", optional(stream.ty()))),
        From::ErrorContext => unsupported("error-context"),
        From::Map(map) => {
            let (key, value) = (component_type(&map.key()), component_type(&map.value()));
            Type::Map(Arc::new(MapType { key, value }))
        }
        From::FixedLengthList(list) => Type::FixedList(Arc::new(component_type(&list.ty())), list.len()),
    }
}

fn optional(ty: Option<component::Type>) -> Option<Type> {
    ty.map(|ty| component_type(&ty))
}

fn unsupported(name: impl Into<Arc<str>>) -> Type {
    Type::Unsupported(name.into())
}

/// Converts a core value type. Integers are signed, as in WebAssembly's text format.
pub fn core_type(ty: &ValType) -> Type {
    match ty {
        ValType::I32 => Type::S32,
        ValType::I64 => Type::S64,
        ValType::F32 => Type::F32,
        ValType::F64 => Type::F64,
        other => unsupported(other.to_string()),
    }
}

/// Converts the arguments of a core function.
///
/// # Errors
/// `BAD_ARGUMENTS` if a core function cannot take a value of this type.
pub fn to_core(values: &[Value]) -> Result<Vec<Val>> {
    let core = |value: &Value| match value {
        Value::S32(number) => Ok(Val::I32(*number)),
        Value::S64(number) => Ok(Val::I64(*number)),
        Value::F32(number) => Ok(Val::F32(number.to_bits())),
        Value::F64(number) => Ok(Val::F64(number.to_bits())),
        other => {
            let message =
                format!("a core function takes values of type s32, s64, f32 or f64, not a {}", other.kind());
            Err(Error::new(Code::BadArguments, message))
        }
    };
    values.iter().map(core).collect()
}

/// Converts the results of a core function: none, one value, or a tuple of several.
///
/// # Errors
/// `UNSUPPORTED_TYPE` if a result is a vector or a reference.
pub fn from_core(results: &[Val]) -> Result<Option<Value>> {
    let ours = |value: &Val| match value {
        Val::I32(number) => Ok(Value::S32(*number)),
        Val::I64(number) => Ok(Value::S64(*number)),
        Val::F32(bits) => Ok(Value::F32(f32::from_bits(*bits))),
        Val::F64(bits) => Ok(Value::F64(f64::from_bits(*bits))),
        Val::V128(_) => Err(Error::new(Code::UnsupportedType, "a result of type v128 cannot be passed")),
        _ => Err(Error::new(Code::UnsupportedType, "a reference cannot be passed as a result")),
    };
    match results {
        [] => Ok(None),
        [one] => ours(one).map(Some),
        several => several.iter().map(ours).collect::<Result<_>>().map(|all| Some(Value::Tuple(all))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Config, Engine};

    #[test]
    fn component_signatures_keep_their_names_and_say_what_cannot_cross() {
        let text = r#"(component
            (import "r" (type $r (sub resource)))
            (type $rec' (record (field "x" s32) (field "y" (list u8))))
            (import "rec" (type $rec (eq $rec')))
            (type $var' (variant (case "a") (case "b" (option string))))
            (import "var" (type $var (eq $var')))
            (type $enum' (enum "on" "off"))
            (import "enum" (type $enum (eq $enum')))
            (type $flags' (flags "r" "w"))
            (import "flags" (type $flags (eq $flags')))
            (import "f" (func (param "a" $rec) (param "b" $var) (param "c" $enum) (param "d" $flags)
                (result (tuple (result) (result f64) (result (error char)) (result bool (error u64))))))
            (import "h" (func (param "a" (map string (list u8 4))) (result (list (map u8 bool) 2))))
            (import "g" (func (param "a" (own $r)) (param "b" (borrow $r)) (param "c" (list (own $r)))))
        )"#;
        let mut config = Config::new();
        config.wasm_component_model_map(true).wasm_component_model_fixed_length_lists(true);
        let engine = Engine::new(&config).unwrap();
        let bytes = wat::parse_str(text).unwrap();
        let component = wasmtime::component::Component::new(&engine, bytes).unwrap();
        let of = |name: &str| match component.component_type().get_import(&engine, name).map(|i| i.ty) {
            Some(component::ComponentItem::ComponentFunc(func)) => component_func(&func),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(
            of("f").to_string(),
            "func(a: record { x: s32, y: list<u8> }, b: variant { a, b(option<string>) }, \
             c: enum { on, off }, d: flags { r, w }) \
             -> tuple<result, result<f64>, result<_, char>, result<bool, u64>>"
        );
        assert_eq!(of("f").unsupported(), None);
        assert_eq!(of("h").to_string(), "func(a: map<string, list<u8, 4>>) -> list<map<u8, bool>, 2>");
        assert_eq!(of("h").unsupported(), None);
        assert_eq!(
            of("g").to_string(),
            "func(a: own<resource>, b: borrow<resource>, c: list<own<resource>>)"
        );
        assert_eq!(of("g").unsupported(), Some("own<resource>"));
    }

    #[test]
    fn core_signatures_number_their_parameters() {
        let engine = Engine::default();
        let results = [ValType::I64, ValType::F32];
        let func = wasmtime::FuncType::new(&engine, [ValType::I32, ValType::F64], results);
        assert_eq!(core_func(&func).to_string(), "func(p0: s32, p1: f64) -> tuple<s64, f32>");
        let func = wasmtime::FuncType::new(&engine, [ValType::V128], [ValType::FUNCREF]);
        assert_eq!(core_func(&func).to_string(), "func(p0: v128) -> (ref null func)");
        assert_eq!(core_func(&func).unsupported(), Some("v128"));
    }

    #[test]
    fn core_values_cross_both_ways() {
        let nan = f32::from_bits(0x7fc0_1234);
        let values = [Value::S32(-1), Value::S64(i64::MIN), Value::F32(nan), Value::F64(-0.0)];
        let core = to_core(&values).unwrap();
        let Some(Value::Tuple(back)) = from_core(&core).unwrap() else { panic!("no tuple") };
        assert_eq!(format!("{back:?}"), format!("{values:?}"));
        assert_eq!(from_core(&core[..1]).unwrap(), Some(Value::S32(-1)));
        assert_eq!(from_core(&[]).unwrap(), None);
        assert_eq!(to_core(&[Value::U32(1)]).unwrap_err().code(), Code::BadArguments);
        let unsupported = from_core(&[Val::FuncRef(None)]).unwrap_err();
        assert_eq!(unsupported.code(), Code::UnsupportedType);
    }
}
