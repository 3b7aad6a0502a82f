//! The value and the type that the whole product uses: every WIT value type, with packed lists of numbers.
//!
//! In: a value from a parser, a peer, Python or a guest, and a type. Out: whether the value fits the type, and
//! the type as WIT. Must not know: WAVE text, JSON, the wire, wasm memory. `wave`, `json`, `wire` and `engine`
//! convert from and to this type.
//!
//! A value is positional: a record is its fields in order, a case is its number. Only the [`Type`] has names,
//! so that values stay small and are quick to send.

use std::fmt;
use std::sync::Arc;

use crate::base::bytes::Bytes;
use crate::base::error::{Code, Error, Result};

/// A WIT value type, or a type in the signature of a core function. Cheap to clone, `Send + Sync`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    List(Arc<Type>),
    /// A list of exactly so many elements: `list<u8, 16>`. Its values are those of a list.
    FixedList(Arc<Type>, u32),
    /// Its values are lists of tuples, each a key and its value, in the order of the guest.
    Map(Arc<MapType>),
    Record(Arc<[Field]>),
    Tuple(Arc<[Type]>),
    Variant(Arc<[Case]>),
    Enum(Arc<[Arc<str>]>),
    Option(Arc<Type>),
    Result(Arc<ResultType>),
    Flags(Arc<[Arc<str>]>),
    /// A type that cannot be passed yet, by its WIT or core name (`own<file>`, `v128`).
    Unsupported(Arc<str>),
}

/// A record's field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    pub name: Arc<str>,
    pub ty: Type,
}

/// A variant's case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    pub name: Arc<str>,
    pub ty: Option<Type>,
}

/// The keys and values of a `map`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapType {
    pub key: Type,
    pub value: Type,
}

/// The two sides of a `result`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResultType {
    pub ok: Option<Type>,
    pub err: Option<Type>,
}

/// A function's parameters and result. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FuncType {
    pub params: Arc<[Field]>,
    pub result: Option<Type>,
}

/// A WIT value. `Send + Sync`. Lists of numbers are always packed; see [`List`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    S8(i8),
    U8(u8),
    S16(i16),
    U16(u16),
    S32(i32),
    U32(u32),
    S64(i64),
    U64(u64),
    F32(f32),
    F64(f64),
    Char(char),
    String(String),
    List(List),
    Record(Vec<Value>),
    Tuple(Vec<Value>),
    /// The case's number and its payload.
    Variant(u32, Option<Box<Value>>),
    Enum(u32),
    Option(Option<Box<Value>>),
    Result(Result<Option<Box<Value>>, Option<Box<Value>>>),
    /// One bit per label, 32 labels per word, the first label in bit 0 of word 0.
    Flags(Vec<u32>),
}

/// The elements of a list: packed numbers, or one [`Value`] for each element of another type. An empty list of
/// numbers is packed too.
#[derive(Clone, Debug, PartialEq)]
pub enum List {
    S8(Vec<i8>),
    U8(Bytes),
    S16(Vec<i16>),
    U16(Vec<u16>),
    S32(Vec<i32>),
    U32(Vec<u32>),
    S64(Vec<i64>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Values(Vec<Value>),
}

impl List {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        match self {
            List::S8(v) => v.len(),
            List::U8(v) => v.len(),
            List::S16(v) => v.len(),
            List::U16(v) => v.len(),
            List::S32(v) => v.len(),
            List::U32(v) => v.len(),
            List::S64(v) => v.len(),
            List::U64(v) => v.len(),
            List::F32(v) => v.len(),
            List::F64(v) => v.len(),
            List::Values(v) => v.len(),
        }
    }

    /// Returns whether the list has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Creates the list of these elements, packed if their type is a number.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` if an element of a list of numbers has another type.
    pub fn collect(element: &Type, values: Vec<Value>) -> Result<List> {
        macro_rules! packed {
            ($($ty:ident)*) => {
                match element {
                    $(Type::$ty => values
                        .into_iter()
                        .map(|value| match value {
                            Value::$ty(number) => Ok(number),
                            other => Err(mismatch(element, &other)),
                        })
                        .collect::<Result<_>>()
                        .map(List::$ty),)*
                    _ => Ok(List::Values(values)),
                }
            };
        }
        packed!(S8 U8 S16 U16 S32 U32 S64 U64 F32 F64)
    }

    /// Returns the element at this index as a value.
    pub fn get(&self, index: usize) -> Option<Value> {
        macro_rules! get {
            ($($ty:ident)*) => {
                match self {
                    $(List::$ty(v) => v.get(index).copied().map(Value::$ty),)*
                    List::Values(v) => v.get(index).cloned(),
                }
            };
        }
        get!(S8 U8 S16 U16 S32 U32 S64 U64 F32 F64)
    }
}

fn mismatch(expected: &Type, found: &Value) -> Error {
    Error::new(Code::BadArguments, format!("expected {expected}, found {}", found.kind()))
}

/// Says that a list does not have the length of its type.
pub fn wrong_length(ty: &Type, found: usize) -> String {
    format!("expected {ty}, found {found} element{}", if found == 1 { "" } else { "s" })
}

impl Value {
    /// Returns the name of the value's kind: `s32`, `list`, `record`.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Bool(_) => "bool",
            Value::S8(_) => "s8",
            Value::U8(_) => "u8",
            Value::S16(_) => "s16",
            Value::U16(_) => "u16",
            Value::S32(_) => "s32",
            Value::U32(_) => "u32",
            Value::S64(_) => "s64",
            Value::U64(_) => "u64",
            Value::F32(_) => "f32",
            Value::F64(_) => "f64",
            Value::Char(_) => "char",
            Value::String(_) => "string",
            Value::List(_) => "list",
            Value::Record(_) => "record",
            Value::Tuple(_) => "tuple",
            Value::Variant(..) => "variant",
            Value::Enum(_) => "enum",
            Value::Option(_) => "option",
            Value::Result(_) => "result",
            Value::Flags(_) => "flags",
        }
    }

    /// Checks that the value, with everything in it, fits a type.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` with the first part that does not fit.
    pub fn check(&self, ty: &Type) -> Result<()> {
        let fits = match (ty, self) {
            (Type::Bool, Value::Bool(_))
            | (Type::S8, Value::S8(_))
            | (Type::U8, Value::U8(_))
            | (Type::S16, Value::S16(_))
            | (Type::U16, Value::U16(_))
            | (Type::S32, Value::S32(_))
            | (Type::U32, Value::U32(_))
            | (Type::S64, Value::S64(_))
            | (Type::U64, Value::U64(_))
            | (Type::F32, Value::F32(_))
            | (Type::F64, Value::F64(_))
            | (Type::Char, Value::Char(_))
            | (Type::String, Value::String(_)) => true,
            (Type::FixedList(_, length), Value::List(list)) if list.len() != *length as usize => {
                return Err(Error::new(Code::BadArguments, wrong_length(ty, list.len())));
            }
            (Type::List(element) | Type::FixedList(element, _), Value::List(list)) => {
                match (&**element, list) {
                    (Type::S8, List::S8(_))
                    | (Type::U8, List::U8(_))
                    | (Type::S16, List::S16(_))
                    | (Type::U16, List::U16(_))
                    | (Type::S32, List::S32(_))
                    | (Type::U32, List::U32(_))
                    | (Type::S64, List::S64(_))
                    | (Type::U64, List::U64(_))
                    | (Type::F32, List::F32(_))
                    | (Type::F64, List::F64(_)) => true,
                    (element, List::Values(values)) if !element.is_number() => {
                        return values.iter().try_for_each(|value| value.check(element));
                    }
                    _ => false,
                }
            }
            (Type::Map(map), Value::List(List::Values(entries))) => {
                let entry = map.entry();
                return entries.iter().try_for_each(|value| value.check(&entry));
            }
            (Type::Record(fields), Value::Record(values)) if fields.len() == values.len() => {
                return fields.iter().zip(values).try_for_each(|(field, value)| value.check(&field.ty));
            }
            (Type::Tuple(types), Value::Tuple(values)) if types.len() == values.len() => {
                return types.iter().zip(values).try_for_each(|(ty, value)| value.check(ty));
            }
            (Type::Variant(cases), Value::Variant(case, payload)) => {
                match (cases.get(*case as usize).map(|case| &case.ty), payload) {
                    (Some(None), None) => true,
                    (Some(Some(ty)), Some(value)) => return value.check(ty),
                    _ => false,
                }
            }
            (Type::Enum(cases), Value::Enum(case)) => (*case as usize) < cases.len(),
            (Type::Option(_), Value::Option(None)) => true,
            (Type::Option(ty), Value::Option(Some(value))) => return value.check(ty),
            (Type::Result(ty), Value::Result(value)) => {
                let (ty, payload) = match value {
                    Ok(payload) => (&ty.ok, payload),
                    Err(payload) => (&ty.err, payload),
                };
                match (ty, payload) {
                    (None, None) => true,
                    (Some(ty), Some(value)) => return value.check(ty),
                    _ => false,
                }
            }
            (Type::Flags(labels), Value::Flags(words)) => {
                words.len() == labels.len().div_ceil(32)
                    && match labels.len() % 32 {
                        0 => true,
                        used => words.last().is_none_or(|last| last >> used == 0),
                    }
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(mismatch(ty, self)) }
    }
}

impl Type {
    /// Returns whether the type is a number, so that lists of it are packed.
    pub fn is_number(&self) -> bool {
        matches!(
            self,
            Type::S8
                | Type::U8
                | Type::S16
                | Type::U16
                | Type::S32
                | Type::U32
                | Type::S64
                | Type::U64
                | Type::F32
                | Type::F64
        )
    }

    /// Returns the first part of the type that cannot be passed yet, if there is one.
    pub fn unsupported(&self) -> Option<&str> {
        match self {
            Type::Unsupported(name) => Some(name),
            Type::List(ty) | Type::FixedList(ty, _) | Type::Option(ty) => ty.unsupported(),
            Type::Map(map) => map.key.unsupported().or_else(|| map.value.unsupported()),
            Type::Record(fields) => fields.iter().find_map(|field| field.ty.unsupported()),
            Type::Tuple(types) => types.iter().find_map(Type::unsupported),
            Type::Variant(cases) => cases.iter().find_map(|case| case.ty.as_ref()?.unsupported()),
            Type::Result(ty) => [&ty.ok, &ty.err].into_iter().find_map(|ty| ty.as_ref()?.unsupported()),
            _ => None,
        }
    }
}

impl MapType {
    /// Returns the type of one entry: a tuple of a key and its value.
    pub fn entry(&self) -> Type {
        Type::Tuple([self.key.clone(), self.value.clone()].into())
    }
}

impl FuncType {
    /// Returns the first part of the signature that cannot be passed yet, if there is one.
    pub fn unsupported(&self) -> Option<&str> {
        let params = self.params.iter().map(|param| &param.ty);
        params.chain(&self.result).find_map(Type::unsupported)
    }
}

/// Writes the type in WIT; an anonymous record as `record { x: s32 }`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Bool => f.write_str("bool"),
            Type::S8 => f.write_str("s8"),
            Type::U8 => f.write_str("u8"),
            Type::S16 => f.write_str("s16"),
            Type::U16 => f.write_str("u16"),
            Type::S32 => f.write_str("s32"),
            Type::U32 => f.write_str("u32"),
            Type::S64 => f.write_str("s64"),
            Type::U64 => f.write_str("u64"),
            Type::F32 => f.write_str("f32"),
            Type::F64 => f.write_str("f64"),
            Type::Char => f.write_str("char"),
            Type::String => f.write_str("string"),
            Type::List(ty) => write!(f, "list<{ty}>"),
            Type::FixedList(ty, length) => write!(f, "list<{ty}, {length}>"),
            Type::Map(map) => write!(f, "map<{}, {}>", map.key, map.value),
            Type::Record(fields) => {
                f.write_str("record { ")?;
                comma_separated(f, fields.iter().map(|field| format!("{}: {}", field.name, field.ty)))?;
                f.write_str(" }")
            }
            Type::Tuple(types) => {
                f.write_str("tuple<")?;
                comma_separated(f, types.iter())?;
                f.write_str(">")
            }
            Type::Variant(cases) => {
                f.write_str("variant { ")?;
                let cases = cases.iter().map(|case| match &case.ty {
                    Some(ty) => format!("{}({ty})", case.name),
                    None => case.name.to_string(),
                });
                comma_separated(f, cases)?;
                f.write_str(" }")
            }
            Type::Enum(names) => {
                f.write_str("enum { ")?;
                comma_separated(f, names.iter())?;
                f.write_str(" }")
            }
            Type::Option(ty) => write!(f, "option<{ty}>"),
            Type::Result(ty) => match (&ty.ok, &ty.err) {
                (None, None) => f.write_str("result"),
                (Some(ok), None) => write!(f, "result<{ok}>"),
                (None, Some(err)) => write!(f, "result<_, {err}>"),
                (Some(ok), Some(err)) => write!(f, "result<{ok}, {err}>"),
            },
            Type::Flags(names) => {
                f.write_str("flags { ")?;
                comma_separated(f, names.iter())?;
                f.write_str(" }")
            }
            Type::Unsupported(name) => f.write_str(name),
        }
    }
}

/// Writes the signature in WIT: `func(a: s32, b: s32) -> s32`.
impl fmt::Display for FuncType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("func(")?;
        comma_separated(f, self.params.iter().map(|param| format!("{}: {}", param.name, param.ty)))?;
        f.write_str(")")?;
        match &self.result {
            Some(ty) => write!(f, " -> {ty}"),
            None => Ok(()),
        }
    }
}

fn comma_separated(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = impl fmt::Display>,
) -> fmt::Result {
    for (index, item) in items.enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(element: Type, length: u32) -> Type {
        Type::FixedList(Arc::new(element), length)
    }

    fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new(MapType { key, value }))
    }

    fn pair(key: Value, value: Value) -> Value {
        Value::Tuple(vec![key, value])
    }

    #[test]
    fn a_fixed_length_list_has_its_length() {
        let bytes = |length: usize| Value::List(List::U8(vec![0; length].into()));
        bytes(3).check(&fixed(Type::U8, 3)).unwrap();
        for (value, message) in [
            (bytes(2), "expected list<u8, 3>, found 2 elements"),
            (bytes(1), "expected list<u8, 3>, found 1 element"),
            (Value::List(List::S8(vec![0; 3])), "expected list<u8, 3>, found list"),
            (Value::List(List::Values(vec![Value::U8(0); 3])), "expected list<u8, 3>, found list"),
            (Value::U8(0), "expected list<u8, 3>, found u8"),
        ] {
            let error = value.check(&fixed(Type::U8, 3)).unwrap_err();
            assert_eq!((error.code(), error.message()), (Code::BadArguments, message));
        }
        let nested = Value::List(List::Values(vec![bytes(3), bytes(2)]));
        let error = nested.check(&fixed(fixed(Type::U8, 3), 2)).unwrap_err();
        assert_eq!(error.message(), "expected list<u8, 3>, found 2 elements");
    }

    #[test]
    fn a_map_has_entries_of_its_types() {
        let ty = map(Type::String, Type::U32);
        let text = |text: &str| Value::String(text.into());
        let of = |entries: Vec<Value>| Value::List(List::Values(entries));
        of(vec![]).check(&ty).unwrap();
        // Keys may repeat.
        of(vec![pair(text("a"), Value::U32(1)), pair(text("a"), Value::U32(2))]).check(&ty).unwrap();
        for (value, message) in [
            (of(vec![pair(Value::U32(1), Value::U32(1))]), "expected string, found u32"),
            (of(vec![pair(text("a"), text("b"))]), "expected u32, found string"),
            (of(vec![text("a")]), "expected tuple<string, u32>, found string"),
            (of(vec![Value::Tuple(vec![text("a")])]), "expected tuple<string, u32>, found tuple"),
            (Value::List(List::U32(vec![1])), "expected map<string, u32>, found list"),
        ] {
            assert_eq!(value.check(&ty).unwrap_err().message(), message);
        }
    }

    #[test]
    fn they_are_written_as_in_wit() {
        let ty = map(Type::String, fixed(fixed(Type::F64, 2), 16));
        assert_eq!(ty.to_string(), "map<string, list<list<f64, 2>, 16>>");
        assert_eq!(ty.unsupported(), None);
        let own = || Type::Unsupported("own<file>".into());
        for ty in [fixed(own(), 1), map(own(), Type::U8), map(Type::U8, own())] {
            assert_eq!(ty.unsupported(), Some("own<file>"));
        }
    }
}
