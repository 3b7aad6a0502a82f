//! Generates random types and values.
//!
//! In: proptest's random numbers. Out: types that are nested up to five deep, and values of these types. Must
//! not know: components.

use std::sync::Arc;

use gvm_host::{Case, Field, List, MapType, ResultType, Type, Value};
use proptest::collection::vec;
use proptest::prelude::*;

fn label(index: usize) -> Arc<str> {
    format!("n{index}").into()
}

fn labels(count: usize) -> Arc<[Arc<str>]> {
    (0..count).map(label).collect()
}

/// Generates any type that GVM supports, nested up to five deep.
pub fn ty() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![
        4 => proptest::sample::select(vec![
            Type::Bool, Type::S8, Type::U8, Type::S16, Type::U16, Type::S32, Type::U32, Type::S64,
            Type::U64, Type::F32, Type::F64, Type::Char, Type::String,
        ]),
        1 => prop_oneof![1usize..6, Just(256), Just(257)].prop_map(|count| Type::Enum(labels(count))),
        1 => (1usize..=32).prop_map(|count| Type::Flags(labels(count))),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        let optional = || proptest::option::of(inner.clone());
        prop_oneof![
            inner.clone().prop_map(|ty| Type::List(Arc::new(ty))),
            (inner.clone(), 1u32..5).prop_map(|(ty, length)| Type::FixedList(Arc::new(ty), length)),
            (inner.clone(), inner.clone())
                .prop_map(|(key, value)| Type::Map(Arc::new(MapType { key, value }))),
            inner.clone().prop_map(|ty| Type::Option(Arc::new(ty))),
            vec(inner.clone(), 1..5).prop_map(|types| Type::Tuple(types.into())),
            vec(inner.clone(), 1..5).prop_map(|types| {
                let fields = types.into_iter().enumerate();
                Type::Record(fields.map(|(index, ty)| Field { name: label(index), ty }).collect())
            }),
            vec(optional(), 1..5).prop_map(|types| {
                let cases = types.into_iter().enumerate();
                Type::Variant(cases.map(|(index, ty)| Case { name: label(index), ty }).collect())
            }),
            (optional(), optional()).prop_map(|(ok, err)| Type::Result(Arc::new(ResultType { ok, err }))),
        ]
    })
}

fn boxed(ty: &Option<Type>) -> BoxedStrategy<Option<Box<Value>>> {
    match ty {
        None => Just(None).boxed(),
        Some(ty) => value(ty).prop_map(|value| Some(Box::new(value))).boxed(),
    }
}

fn all<'a>(types: impl IntoIterator<Item = &'a Type>) -> BoxedStrategy<Vec<Value>> {
    types.into_iter().map(value).collect::<Vec<_>>().boxed()
}

/// Generates values of a type, with empty and longer lists, every kind of float, and characters of every
/// plane.
pub fn value(ty: &Type) -> BoxedStrategy<Value> {
    use proptest::num::{f32, f64};
    match ty {
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Type::S8 => any::<i8>().prop_map(Value::S8).boxed(),
        Type::U8 => any::<u8>().prop_map(Value::U8).boxed(),
        Type::S16 => any::<i16>().prop_map(Value::S16).boxed(),
        Type::U16 => any::<u16>().prop_map(Value::U16).boxed(),
        Type::S32 => any::<i32>().prop_map(Value::S32).boxed(),
        Type::U32 => any::<u32>().prop_map(Value::U32).boxed(),
        Type::S64 => any::<i64>().prop_map(Value::S64).boxed(),
        Type::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        Type::F32 => f32::ANY.prop_map(Value::F32).boxed(),
        Type::F64 => f64::ANY.prop_map(Value::F64).boxed(),
        Type::Char => any::<char>().prop_map(Value::Char).boxed(),
        Type::String => prop_oneof![
            vec(any::<char>(), 0..9).prop_map(|chars| Value::String(chars.into_iter().collect())),
            "[ -~é]{0,40}".prop_map(Value::String),
        ]
        .boxed(),
        Type::List(element) => {
            let count = if element.is_number() { 0..40 } else { 0..5 };
            let element = element.clone();
            vec(value(&element), count)
                .prop_map(move |values| Value::List(List::collect(&element, values).unwrap()))
                .boxed()
        }
        Type::FixedList(element, length) => {
            let element = element.clone();
            vec(value(&element), *length as usize)
                .prop_map(move |values| Value::List(List::collect(&element, values).unwrap()))
                .boxed()
        }
        Type::Map(map) => {
            let entry = (value(&map.key), value(&map.value));
            vec(entry.prop_map(|(key, value)| Value::Tuple(vec![key, value])), 0..4)
                .prop_map(|entries| Value::List(List::Values(entries)))
                .boxed()
        }
        Type::Record(fields) => all(fields.iter().map(|field| &field.ty)).prop_map(Value::Record).boxed(),
        Type::Tuple(types) => all(types.iter()).prop_map(Value::Tuple).boxed(),
        Type::Variant(cases) => {
            let case = |(index, case): (usize, &Case)| {
                boxed(&case.ty).prop_map(move |payload| Value::Variant(index as u32, payload)).boxed()
            };
            proptest::strategy::Union::new(cases.iter().enumerate().map(case)).boxed()
        }
        Type::Enum(names) => (0..names.len() as u32).prop_map(Value::Enum).boxed(),
        Type::Option(ty) => {
            let some = boxed(&Some((**ty).clone()));
            prop_oneof![Just(None), some].prop_map(Value::Option).boxed()
        }
        Type::Result(ty) => prop_oneof![
            boxed(&ty.ok).prop_map(|payload| Value::Result(Ok(payload))),
            boxed(&ty.err).prop_map(|payload| Value::Result(Err(payload))),
        ]
        .boxed(),
        Type::Flags(names) => {
            let mask = u32::MAX >> (32 - names.len());
            any::<u32>().prop_map(move |bits| Value::Flags(vec![bits & mask])).boxed()
        }
        Type::Unsupported(name) => panic!("{name}"),
    }
}
