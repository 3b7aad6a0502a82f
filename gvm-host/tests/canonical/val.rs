//! Conversion of GVM's values to wasmtime's `Val`, and bitwise equality.
//!
//! In: values and their types. Out: the same value as `Val`; whether two values are equal. Must not know: how
//! values are lifted and lowered.

use gvm_host::{List, Type, Value};
use wasmtime::component::Val;

/// Returns the value as wasmtime's `Val`.
pub fn to_val(value: &Value, ty: &Type) -> Val {
    let boxed = |payload: &Option<Box<Value>>, ty: Option<&Type>| {
        payload.as_ref().map(|value| Box::new(to_val(value, ty.unwrap())))
    };
    match (ty, value) {
        (_, Value::Bool(v)) => Val::Bool(*v),
        (_, Value::S8(v)) => Val::S8(*v),
        (_, Value::U8(v)) => Val::U8(*v),
        (_, Value::S16(v)) => Val::S16(*v),
        (_, Value::U16(v)) => Val::U16(*v),
        (_, Value::S32(v)) => Val::S32(*v),
        (_, Value::U32(v)) => Val::U32(*v),
        (_, Value::S64(v)) => Val::S64(*v),
        (_, Value::U64(v)) => Val::U64(*v),
        (_, Value::F32(v)) => Val::Float32(*v),
        (_, Value::F64(v)) => Val::Float64(*v),
        (_, Value::Char(v)) => Val::Char(*v),
        (_, Value::String(v)) => Val::String(v.clone()),
        (Type::List(element), Value::List(list)) => {
            Val::List((0..list.len()).map(|index| to_val(&list.get(index).unwrap(), element)).collect())
        }
        (Type::FixedList(element, _), Value::List(list)) => {
            let values = (0..list.len()).map(|index| to_val(&list.get(index).unwrap(), element));
            Val::FixedLengthList(values.collect())
        }
        (Type::Map(map), Value::List(List::Values(entries))) => {
            let entry = |entry: &Value| match entry {
                Value::Tuple(pair) => (to_val(&pair[0], &map.key), to_val(&pair[1], &map.value)),
                other => panic!("{other:?} is not an entry of a map"),
            };
            Val::Map(entries.iter().map(entry).collect())
        }
        (Type::Record(fields), Value::Record(values)) => Val::Record(
            fields.iter().zip(values).map(|(f, v)| (f.name.to_string(), to_val(v, &f.ty))).collect(),
        ),
        (Type::Tuple(types), Value::Tuple(values)) => {
            Val::Tuple(types.iter().zip(values).map(|(ty, v)| to_val(v, ty)).collect())
        }
        (Type::Variant(cases), Value::Variant(case, payload)) => {
            let case = &cases[*case as usize];
            Val::Variant(case.name.to_string(), boxed(payload, case.ty.as_ref()))
        }
        (Type::Enum(names), Value::Enum(case)) => Val::Enum(names[*case as usize].to_string()),
        (Type::Option(ty), Value::Option(payload)) => Val::Option(boxed(payload, Some(ty))),
        (Type::Result(ty), Value::Result(Ok(payload))) => Val::Result(Ok(boxed(payload, ty.ok.as_ref()))),
        (Type::Result(ty), Value::Result(Err(payload))) => Val::Result(Err(boxed(payload, ty.err.as_ref()))),
        (Type::Flags(names), Value::Flags(words)) => {
            let set = names.iter().enumerate().filter(|(bit, _)| words[bit / 32] >> (bit % 32) & 1 == 1);
            Val::Flags(set.map(|(_, name)| name.to_string()).collect())
        }
        (ty, value) => panic!("{value:?} is not a {ty}"),
    }
}

/// Returns whether two values are equal bit for bit. All NaNs are equal.
pub fn same(a: &Value, b: &Value) -> bool {
    let all = |a: &[Value], b: &[Value]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b));
    let boxed = |a: &Option<Box<Value>>, b: &Option<Box<Value>>| match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    let f32s = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    let f64s = |a: f64, b: f64| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    match (a, b) {
        (Value::F32(a), Value::F32(b)) => f32s(*a, *b),
        (Value::F64(a), Value::F64(b)) => f64s(*a, *b),
        (Value::List(List::F32(a)), Value::List(List::F32(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| f32s(*a, *b))
        }
        (Value::List(List::F64(a)), Value::List(List::F64(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| f64s(*a, *b))
        }
        (Value::List(List::Values(a)), Value::List(List::Values(b))) => all(a, b),
        (Value::Record(a), Value::Record(b)) | (Value::Tuple(a), Value::Tuple(b)) => all(a, b),
        (Value::Variant(n, a), Value::Variant(m, b)) => n == m && boxed(a, b),
        (Value::Option(a), Value::Option(b)) => boxed(a, b),
        (Value::Result(Ok(a)), Value::Result(Ok(b))) => boxed(a, b),
        (Value::Result(Err(a)), Value::Result(Err(b))) => boxed(a, b),
        (a, b) => a == b,
    }
}
