//! Converts values to JSON, for `--json` and for programs that read it.
//!
//! In: a value and its type. Out: one JSON value that loses nothing: integers beyond 2^53 and floats
//! that JSON lacks become strings, bytes become base64. Must not know: where the JSON is printed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value as Json};

use crate::base::value::{List, Type, Value};

/// The largest integer that every JSON reader represents exactly, together with all smaller ones.
const EXACT: u64 = 1 << 53;

/// Converts a value to JSON:
///
/// - Integers are numbers, or strings beyond ±2^53. Floats are numbers, or strings if they are not finite.
/// - `list<u8>` is `{"base64": …}`. Records are objects. Tuples and other lists are arrays. A map is an array of
///   `[key, value]` pairs, because a key need not be a string. Flags are an array of names.
/// - A case of an enum, or of a variant without payload, is its name; with payload it is `{"case": payload}`.
/// - `none` is null. `some` is its payload, or `{"some": …}` if the payload is an option itself.
/// - Results are `{"ok": …}` or `{"err": …}`.
///
/// A part that does not fit its type, which [`Value::check`] reports, is null.
pub fn to_json(value: &Value, ty: &Type) -> Json {
    match (ty, value) {
        (_, Value::Bool(v)) => Json::Bool(*v),
        (_, Value::S8(v)) => Json::from(*v),
        (_, Value::U8(v)) => Json::from(*v),
        (_, Value::S16(v)) => Json::from(*v),
        (_, Value::U16(v)) => Json::from(*v),
        (_, Value::S32(v)) => Json::from(*v),
        (_, Value::U32(v)) => Json::from(*v),
        (_, Value::S64(v)) => signed(*v),
        (_, Value::U64(v)) => unsigned(*v),
        (_, Value::F32(v)) => single(*v),
        (_, Value::F64(v)) => double(*v),
        (_, Value::Char(v)) => Json::String(v.to_string()),
        (_, Value::String(v)) => Json::String(v.clone()),
        (Type::List(element) | Type::FixedList(element, _), Value::List(items)) => list(items, element),
        (Type::Map(map), Value::List(items)) => list(items, &map.entry()),
        (Type::Record(fields), Value::Record(values)) => {
            let fields = fields.iter().zip(values);
            Json::Object(fields.map(|(f, value)| (f.name.to_string(), to_json(value, &f.ty))).collect())
        }
        (Type::Tuple(types), Value::Tuple(values)) => {
            Json::Array(types.iter().zip(values).map(|(ty, value)| to_json(value, ty)).collect())
        }
        (Type::Variant(cases), Value::Variant(case, payload)) => match cases.get(*case as usize) {
            Some(case) => match (&case.ty, payload) {
                (Some(ty), Some(value)) => object(&case.name, to_json(value, ty)),
                _ => Json::String(case.name.to_string()),
            },
            None => Json::Null,
        },
        (Type::Enum(names), Value::Enum(case)) => {
            names.get(*case as usize).map_or(Json::Null, |name| Json::String(name.to_string()))
        }
        (Type::Option(ty), Value::Option(Some(value))) => match **ty {
            Type::Option(_) => object("some", to_json(value, ty)),
            _ => to_json(value, ty),
        },
        (Type::Result(ty), Value::Result(Ok(payload))) => object("ok", optional(payload, ty.ok.as_ref())),
        (Type::Result(ty), Value::Result(Err(payload))) => object("err", optional(payload, ty.err.as_ref())),
        (Type::Flags(names), Value::Flags(words)) => {
            let is_set = |bit: usize| words.get(bit / 32).is_some_and(|word| word >> (bit % 32) & 1 == 1);
            let set = names.iter().enumerate().filter(|(bit, _)| is_set(*bit));
            Json::Array(set.map(|(_, name)| Json::String(name.to_string())).collect())
        }
        _ => Json::Null,
    }
}

fn optional(payload: &Option<Box<Value>>, ty: Option<&Type>) -> Json {
    match (payload, ty) {
        (Some(value), Some(ty)) => to_json(value, ty),
        _ => Json::Null,
    }
}

fn object(key: &str, value: Json) -> Json {
    Json::Object(Map::from_iter([(key.to_owned(), value)]))
}

fn list(items: &List, element: &Type) -> Json {
    match items {
        List::U8(v) => object("base64", Json::String(STANDARD.encode(v))),
        List::S8(v) => v.iter().copied().map(Json::from).collect(),
        List::S16(v) => v.iter().copied().map(Json::from).collect(),
        List::U16(v) => v.iter().copied().map(Json::from).collect(),
        List::S32(v) => v.iter().copied().map(Json::from).collect(),
        List::U32(v) => v.iter().copied().map(Json::from).collect(),
        List::S64(v) => v.iter().copied().map(signed).collect(),
        List::U64(v) => v.iter().copied().map(unsigned).collect(),
        List::F32(v) => v.iter().copied().map(single).collect(),
        List::F64(v) => v.iter().copied().map(double).collect(),
        List::Values(v) => v.iter().map(|value| to_json(value, element)).collect(),
    }
}

fn signed(number: i64) -> Json {
    if number.unsigned_abs() > EXACT { Json::String(number.to_string()) } else { Json::from(number) }
}

fn unsigned(number: u64) -> Json {
    if number > EXACT { Json::String(number.to_string()) } else { Json::from(number) }
}

/// Writes an `f32` with its own shortest digits: 0.1 stays 0.1.
fn single(number: f32) -> Json {
    double(number.to_string().parse().unwrap_or(f64::from(number)))
}

fn double(number: f64) -> Json {
    match Number::from_f64(number) {
        Some(number) => Json::Number(number),
        None if number.is_nan() => Json::String("nan".to_owned()),
        None => Json::String(number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::value::{Case, Field, MapType, ResultType};

    #[track_caller]
    fn check(value: Value, ty: Type, expected: &str) {
        value.check(&ty).unwrap();
        assert_eq!(to_json(&value, &ty).to_string(), expected);
    }

    fn some(value: Value) -> Value {
        Value::Option(Some(Box::new(value)))
    }

    #[test]
    fn numbers_lose_nothing() {
        check(Value::U64(1 << 53), Type::U64, "9007199254740992");
        check(Value::U64((1 << 53) + 1), Type::U64, "\"9007199254740993\"");
        check(Value::S64(i64::MIN), Type::S64, "\"-9223372036854775808\"");
        check(Value::F32(0.1), Type::F32, "0.1");
        check(Value::F64(-0.0), Type::F64, "-0.0");
        check(Value::F64(f64::NAN), Type::F64, "\"nan\"");
        check(Value::F32(f32::NEG_INFINITY), Type::F32, "\"-inf\"");
        let list = Value::List(List::U64(vec![1, u64::MAX]));
        check(list, Type::List(Arc::new(Type::U64)), "[1,\"18446744073709551615\"]");
    }

    #[test]
    fn bytes_are_base64() {
        let ty = Type::List(Arc::new(Type::U8));
        check(Value::List(List::U8(vec![0, 255, 16].into())), ty.clone(), r#"{"base64":"AP8Q"}"#);
        check(Value::List(List::U8(vec![].into())), ty, r#"{"base64":""}"#);
        let ty = Type::FixedList(Arc::new(Type::U8), 2);
        check(Value::List(List::U8(vec![0, 255].into())), ty, r#"{"base64":"AP8="}"#);
    }

    #[test]
    fn maps_are_pairs() {
        let ty = Type::Map(Arc::new(MapType { key: Type::U64, value: Type::List(Arc::new(Type::U8)) }));
        let entry = |key, bytes: &[u8]| {
            Value::Tuple(vec![Value::U64(key), Value::List(List::U8(bytes.to_vec().into()))])
        };
        let value = Value::List(List::Values(vec![entry(1, &[0]), entry(u64::MAX, &[])]));
        check(value, ty, r#"[[1,{"base64":"AA=="}],["18446744073709551615",{"base64":""}]]"#);
    }

    #[test]
    fn composites_keep_their_names_and_order() {
        let field = |name: &str, ty| Field { name: name.into(), ty };
        let record = Type::Record([field("z", Type::Bool), field("a", Type::Char)].into());
        check(Value::Record(vec![Value::Bool(true), Value::Char('é')]), record, r#"{"z":true,"a":"é"}"#);
        let tuple = Type::Tuple([Type::S8, Type::String].into());
        check(Value::Tuple(vec![Value::S8(-1), Value::String("\"".into())]), tuple, r#"[-1,"\""]"#);
        let case = |name: &str, ty| Case { name: name.into(), ty };
        let variant = Type::Variant([case("off", None), case("on", Some(Type::U8))].into());
        check(Value::Variant(0, None), variant.clone(), r#""off""#);
        check(Value::Variant(1, Some(Box::new(Value::U8(7)))), variant, r#"{"on":7}"#);
        check(Value::Enum(1), Type::Enum(["a".into(), "b".into()].into()), r#""b""#);
        let flags = Type::Flags(["r".into(), "w".into(), "x".into()].into());
        check(Value::Flags(vec![0b101]), flags, r#"["r","x"]"#);
    }

    #[test]
    fn options_and_results_stay_distinct() {
        let option = Type::Option(Arc::new(Type::U8));
        check(Value::Option(None), option.clone(), "null");
        check(some(Value::U8(1)), option.clone(), "1");
        let nested = Type::Option(Arc::new(option));
        check(Value::Option(None), nested.clone(), "null");
        check(some(Value::Option(None)), nested.clone(), r#"{"some":null}"#);
        check(some(some(Value::U8(1))), nested, r#"{"some":1}"#);
        let result = Type::Result(Arc::new(ResultType { ok: Some(Type::U8), err: None }));
        check(Value::Result(Ok(Some(Box::new(Value::U8(1))))), result.clone(), r#"{"ok":1}"#);
        check(Value::Result(Err(None)), result, r#"{"err":null}"#);
    }
}
