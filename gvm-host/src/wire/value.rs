//! Values and types to and from `schema/value.capnp`.
//!
//! In: our values, or a peer's bytes. Out: the other. A peer's bytes are checked as they are read: text must
//! be UTF-8, characters must be Unicode scalar values, nesting is bounded. The caller checks that a value
//! fits its type. Must not know: calls, sessions.

use std::sync::Arc;

use capnp::struct_list;

use super::error::unknown;
use super::large;
use super::schema::value_capnp::{field, func_type, type_, value};
use crate::base::error::{Code, Error, Result};
use crate::base::limits;
use crate::base::value::{Case, Field, FuncType, List, MapType, ResultType, Type, Value};

#[cfg(target_endian = "big")]
compile_error!("packed numbers cross as they lie in memory, which must be little-endian");

/// How deep a value or type may nest; the component model's own types stop at 100.
const DEPTH: u32 = 128;

fn too_deep() -> Error {
    Error::new(Code::BadArguments, format!("a value nests deeper than {DEPTH} levels"))
}

fn unreadable(error: capnp::Error) -> Error {
    Error::new(Code::BadArguments, format!("cannot read a value from the other side: {error}"))
}

fn text(reader: capnp::Result<capnp::text::Reader<'_>>) -> Result<&str> {
    reader
        .map_err(unreadable)?
        .to_str()
        .map_err(|_| Error::new(Code::BadArguments, "the other side sent text that is not UTF-8"))
}

/// The large parts of a value, collected while it is written.
pub struct Parts {
    /// Whether large parts are left out, to cross separately.
    apart: bool,
    /// The path of indexes to the value that is being written.
    way: Vec<u32>,
    ways: Vec<Box<[u32]>>,
}

impl Parts {
    /// Leaves nothing out.
    pub fn inline() -> Parts {
        Parts { apart: false, way: Vec::new(), ways: Vec::new() }
    }

    /// Leaves large parts out and records their paths.
    pub fn collected() -> Parts {
        Parts { apart: true, ..Parts::inline() }
    }

    /// Returns the paths of the parts that were left out, in the order of their index.
    pub fn ways(self) -> Vec<Box<[u32]>> {
        self.ways
    }

    fn at(&mut self, index: usize, write: impl FnOnce(&mut Parts)) {
        self.way.push(index as u32);
        write(self);
        self.way.pop();
    }

    /// Leaves out a part of this size if it is large; returns whether it did.
    fn take(&mut self, bytes: usize, text: bool, to: &mut value::Builder<'_>) -> bool {
        if !self.apart || bytes < limits::PART_FROM || self.ways.len() >= limits::PARTS {
            return false;
        }
        let mut part = to.reborrow().init_part();
        part.set_index(self.ways.len() as u32);
        part.set_text(text);
        self.ways.push(self.way.as_slice().into());
        true
    }
}

/// Writes a value.
pub fn write(from: &Value, mut to: value::Builder<'_>, parts: &mut Parts) {
    match from {
        Value::Bool(v) => to.set_bool(*v),
        Value::S8(v) => to.set_s8(*v),
        Value::U8(v) => to.set_u8(*v),
        Value::S16(v) => to.set_s16(*v),
        Value::U16(v) => to.set_u16(*v),
        Value::S32(v) => to.set_s32(*v),
        Value::U32(v) => to.set_u32(*v),
        Value::S64(v) => to.set_s64(*v),
        Value::U64(v) => to.set_u64(*v),
        Value::F32(v) => to.set_f32(*v),
        Value::F64(v) => to.set_f64(*v),
        Value::Char(v) => to.set_char(u32::from(*v)),
        Value::String(v) => {
            if !parts.take(v.len(), true, &mut to) {
                to.set_string(v.as_str());
            }
        }
        Value::List(List::Values(values)) => write_all(values, to.init_list(values.len() as u32), parts),
        Value::List(list) => {
            let (element, data) = large::packed(list);
            if !parts.take(data.len(), false, &mut to) {
                let mut to = to.init_numbers();
                to.set_element(element);
                to.set_data(data);
            }
        }
        Value::Record(values) => write_all(values, to.init_record(values.len() as u32), parts),
        Value::Tuple(values) => write_all(values, to.init_tuple(values.len() as u32), parts),
        Value::Variant(case, payload) => {
            let mut to = to.init_variant();
            to.set_case(*case);
            if let Some(payload) = payload {
                parts.at(0, |parts| write(payload, to.init_payload(), parts));
            }
        }
        Value::Enum(case) => to.set_enum(*case),
        Value::Option(None) => to.set_none(()),
        Value::Option(Some(value)) => parts.at(0, |parts| write(value, to.init_some(), parts)),
        Value::Result(Ok(payload)) => {
            let to = to.init_ok();
            if let Some(payload) = payload {
                parts.at(0, |parts| write(payload, to.init_payload(), parts));
            }
        }
        Value::Result(Err(payload)) => {
            let to = to.init_err();
            if let Some(payload) = payload {
                parts.at(0, |parts| write(payload, to.init_payload(), parts));
            }
        }
        Value::Flags(words) => {
            let mut to = to.init_flags(words.len() as u32);
            for (index, word) in words.iter().enumerate() {
                to.set(index as u32, *word);
            }
        }
    }
}

/// Writes values into a list of the same length.
pub fn write_all(from: &[Value], mut to: struct_list::Builder<'_, value::Owned>, parts: &mut Parts) {
    for (index, value) in from.iter().enumerate() {
        parts.at(index, |parts| write(value, to.reborrow().get(index as u32), parts));
    }
}

/// Reads a value.
///
/// # Errors
/// `BAD_ARGUMENTS` if it is invalid; `VERSION_MISMATCH`.
pub fn read(from: value::Reader<'_>) -> Result<Value> {
    read_at(from, DEPTH, &mut [])
}

/// Reads the values of a list.
///
/// # Errors
/// `BAD_ARGUMENTS` if one is invalid; `VERSION_MISMATCH`.
pub fn read_all(from: struct_list::Reader<'_, value::Owned>) -> Result<Vec<Value>> {
    read_all_at(from, DEPTH, &mut [])
}

/// Reads the values of a list whose large parts came separately. Each part is used once.
///
/// # Errors
/// `BAD_ARGUMENTS` if a value is invalid or refers to a missing part; `VERSION_MISMATCH`.
pub fn read_all_with(
    from: struct_list::Reader<'_, value::Owned>,
    parts: &mut [Option<List>],
) -> Result<Vec<Value>> {
    read_all_at(from, DEPTH, parts)
}

fn read_at(from: value::Reader<'_>, depth: u32, parts: &mut [Option<List>]) -> Result<Value> {
    let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
    let mut payload = |has: bool, payload: capnp::Result<value::Reader<'_>>| match has {
        true => Ok(Some(Box::new(read_at(payload.map_err(unreadable)?, depth, parts)?))),
        false => Ok::<_, Error>(None),
    };
    let which = from.which().map_err(|_| unknown("a kind of value"))?;
    Ok(match which {
        value::Bool(v) => Value::Bool(v),
        value::S8(v) => Value::S8(v),
        value::U8(v) => Value::U8(v),
        value::S16(v) => Value::S16(v),
        value::U16(v) => Value::U16(v),
        value::S32(v) => Value::S32(v),
        value::U32(v) => Value::U32(v),
        value::S64(v) => Value::S64(v),
        value::U64(v) => Value::U64(v),
        value::F32(v) => Value::F32(v),
        value::F64(v) => Value::F64(v),
        value::Char(v) => Value::Char(char::from_u32(v).ok_or_else(|| {
            Error::new(
                Code::BadArguments,
                format!("the other side sent a character {v:#x}, which does not exist"),
            )
        })?),
        value::String(v) => Value::String(text(v)?.to_owned()),
        value::Numbers(v) => Value::List(read_numbers(v)?),
        value::List(v) => Value::List(List::Values(read_all_at(v.map_err(unreadable)?, depth, parts)?)),
        value::Record(v) => Value::Record(read_all_at(v.map_err(unreadable)?, depth, parts)?),
        value::Tuple(v) => Value::Tuple(read_all_at(v.map_err(unreadable)?, depth, parts)?),
        value::Variant(v) => Value::Variant(v.get_case(), payload(v.has_payload(), v.get_payload())?),
        value::Enum(v) => Value::Enum(v),
        value::None(()) => Value::Option(None),
        value::Some(v) => Value::Option(Some(Box::new(read_at(v.map_err(unreadable)?, depth, parts)?))),
        value::Ok(v) => Value::Result(Ok(payload(v.has_payload(), v.get_payload())?)),
        value::Err(v) => Value::Result(Err(payload(v.has_payload(), v.get_payload())?)),
        value::Flags(v) => Value::Flags(v.map_err(unreadable)?.iter().collect()),
        value::Part(v) => read_part(v, parts)?,
    })
}

fn read_part(from: value::part::Reader<'_>, parts: &mut [Option<List>]) -> Result<Value> {
    let part = parts.get_mut(from.get_index() as usize).and_then(Option::take);
    match (part, from.get_text()) {
        (Some(List::U8(text)), true) => String::from_utf8(text.into_vec())
            .map(Value::String)
            .map_err(|_| Error::new(Code::BadArguments, "the other side sent text that is not UTF-8")),
        (Some(list), false) => Ok(Value::List(list)),
        _ => Err(Error::new(Code::BadArguments, "the other side sent a value that refers to a missing part")),
    }
}

fn read_all_at(
    from: struct_list::Reader<'_, value::Owned>,
    depth: u32,
    parts: &mut [Option<List>],
) -> Result<Vec<Value>> {
    from.iter().map(|value| read_at(value, depth, parts)).collect()
}

fn read_numbers(from: value::numbers::Reader<'_>) -> Result<List> {
    let data = from.get_data().map_err(unreadable)?;
    let element = from.get_element().map_err(|_| unknown("a kind of number"))?;
    let mut list = large::room(element, data.len())?;
    large::bytes_of(&mut list).copy_from_slice(data);
    Ok(list)
}

/// Writes a type.
pub fn write_type(from: &Type, mut to: type_::Builder<'_>) {
    match from {
        Type::Bool => to.set_bool(()),
        Type::S8 => to.set_s8(()),
        Type::U8 => to.set_u8(()),
        Type::S16 => to.set_s16(()),
        Type::U16 => to.set_u16(()),
        Type::S32 => to.set_s32(()),
        Type::U32 => to.set_u32(()),
        Type::S64 => to.set_s64(()),
        Type::U64 => to.set_u64(()),
        Type::F32 => to.set_f32(()),
        Type::F64 => to.set_f64(()),
        Type::Char => to.set_char(()),
        Type::String => to.set_string(()),
        Type::List(element) => write_type(element, to.init_list()),
        Type::FixedList(element, length) => {
            let mut to = to.init_fixed_list();
            to.set_length(*length);
            write_type(element, to.init_element());
        }
        Type::Map(map) => {
            let mut to = to.init_map();
            write_type(&map.key, to.reborrow().init_key());
            write_type(&map.value, to.init_value());
        }
        Type::Record(fields) => write_fields(fields, to.init_record(fields.len() as u32)),
        Type::Tuple(types) => {
            let mut to = to.init_tuple(types.len() as u32);
            for (index, ty) in types.iter().enumerate() {
                write_type(ty, to.reborrow().get(index as u32));
            }
        }
        Type::Variant(cases) => {
            let mut to = to.init_variant(cases.len() as u32);
            for (index, case) in cases.iter().enumerate() {
                let mut to = to.reborrow().get(index as u32);
                to.set_name(&*case.name);
                if let Some(ty) = &case.ty {
                    write_type(ty, to.init_type());
                }
            }
        }
        Type::Enum(names) => write_names(names, to.init_enum(names.len() as u32)),
        Type::Option(ty) => write_type(ty, to.init_option()),
        Type::Result(result) => {
            let mut to = to.init_result();
            if let Some(ty) = &result.ok {
                write_type(ty, to.reborrow().init_ok());
            }
            if let Some(ty) = &result.err {
                write_type(ty, to.init_err());
            }
        }
        Type::Flags(names) => write_names(names, to.init_flags(names.len() as u32)),
        Type::Unsupported(name) => to.set_unsupported(&**name),
    }
}

fn write_fields(from: &[Field], mut to: struct_list::Builder<'_, field::Owned>) {
    for (index, from) in from.iter().enumerate() {
        let mut to = to.reborrow().get(index as u32);
        to.set_name(&*from.name);
        write_type(&from.ty, to.init_type());
    }
}

fn write_names(from: &[Arc<str>], mut to: capnp::text_list::Builder<'_>) {
    for (index, name) in from.iter().enumerate() {
        to.set(index as u32, &**name);
    }
}

/// Reads a type.
///
/// # Errors
/// `BAD_ARGUMENTS` if it is invalid; `VERSION_MISMATCH`.
pub fn read_type(from: type_::Reader<'_>) -> Result<Type> {
    read_type_at(from, DEPTH)
}

fn read_type_at(from: type_::Reader<'_>, depth: u32) -> Result<Type> {
    let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
    let side = |has: bool, side: capnp::Result<type_::Reader<'_>>| match has {
        true => Ok(Some(read_type_at(side.map_err(unreadable)?, depth)?)),
        false => Ok::<_, Error>(None),
    };
    let which = from.which().map_err(|_| unknown("a kind of type"))?;
    Ok(match which {
        type_::Bool(()) => Type::Bool,
        type_::S8(()) => Type::S8,
        type_::U8(()) => Type::U8,
        type_::S16(()) => Type::S16,
        type_::U16(()) => Type::U16,
        type_::S32(()) => Type::S32,
        type_::U32(()) => Type::U32,
        type_::S64(()) => Type::S64,
        type_::U64(()) => Type::U64,
        type_::F32(()) => Type::F32,
        type_::F64(()) => Type::F64,
        type_::Char(()) => Type::Char,
        type_::String(()) => Type::String,
        type_::List(ty) => Type::List(Arc::new(read_type_at(ty.map_err(unreadable)?, depth)?)),
        type_::Record(fields) => Type::Record(read_fields(fields.map_err(unreadable)?, depth)?),
        type_::Tuple(types) => {
            let types = types.map_err(unreadable)?;
            Type::Tuple(types.iter().map(|ty| read_type_at(ty, depth)).collect::<Result<_>>()?)
        }
        type_::Variant(cases) => {
            let case = |case: field::Reader<'_>| {
                Ok(Case { name: text(case.get_name())?.into(), ty: side(case.has_type(), case.get_type())? })
            };
            Type::Variant(cases.map_err(unreadable)?.iter().map(case).collect::<Result<_>>()?)
        }
        type_::Enum(names) => Type::Enum(read_names(names.map_err(unreadable)?)?),
        type_::Option(ty) => Type::Option(Arc::new(read_type_at(ty.map_err(unreadable)?, depth)?)),
        type_::Result(result) => Type::Result(Arc::new(ResultType {
            ok: side(result.has_ok(), result.get_ok())?,
            err: side(result.has_err(), result.get_err())?,
        })),
        type_::Flags(names) => Type::Flags(read_names(names.map_err(unreadable)?)?),
        type_::Unsupported(name) => Type::Unsupported(text(name)?.into()),
        type_::FixedList(list) => {
            let element = read_type_at(list.get_element().map_err(unreadable)?, depth)?;
            Type::FixedList(Arc::new(element), list.get_length())
        }
        type_::Map(map) => Type::Map(Arc::new(MapType {
            key: read_type_at(map.get_key().map_err(unreadable)?, depth)?,
            value: read_type_at(map.get_value().map_err(unreadable)?, depth)?,
        })),
    })
}

fn read_fields(from: struct_list::Reader<'_, field::Owned>, depth: u32) -> Result<Arc<[Field]>> {
    from.iter()
        .map(|from| {
            let ty = read_type_at(from.get_type().map_err(unreadable)?, depth)?;
            Ok(Field { name: text(from.get_name())?.into(), ty })
        })
        .collect()
}

fn read_names(from: capnp::text_list::Reader<'_>) -> Result<Arc<[Arc<str>]>> {
    from.iter().map(|name| Ok(text(name)?.into())).collect()
}

/// Writes a signature.
pub fn write_func(from: &FuncType, mut to: func_type::Builder<'_>) {
    write_fields(&from.params, to.reborrow().init_params(from.params.len() as u32));
    if let Some(ty) = &from.result {
        write_type(ty, to.init_result());
    }
}

/// Reads a signature.
///
/// # Errors
/// `BAD_ARGUMENTS` if it is invalid; `VERSION_MISMATCH`.
pub fn read_func(from: func_type::Reader<'_>) -> Result<FuncType> {
    let params = read_fields(from.get_params().map_err(unreadable)?, DEPTH)?;
    let result = match from.has_result() {
        true => Some(read_type(from.get_result().map_err(unreadable)?)?),
        false => None,
    };
    Ok(FuncType { params, result })
}

/// Whether values take more than `most` bytes in a message. Stops counting as soon as they do.
pub fn exceeds(values: &[Value], most: u64) -> bool {
    fn within<'a>(values: impl IntoIterator<Item = &'a Value>, left: &mut u64) -> bool {
        values.into_iter().all(|value| match value {
            Value::List(List::Values(values)) | Value::Record(values) | Value::Tuple(values) => {
                take(left, STRUCT) && within(values, left)
            }
            Value::Variant(_, inner) | Value::Option(inner) | Value::Result(Ok(inner) | Err(inner)) => {
                take(left, STRUCT) && within(inner.as_deref(), left)
            }
            flat => take(left, size(flat)),
        })
    }
    fn take(left: &mut u64, bytes: u64) -> bool {
        match left.checked_sub(bytes) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
    !within(values, &mut most.clone())
}

/// The size of a value struct in bytes: three words of data and pointers, and its share of the list that
/// holds it.
const STRUCT: u64 = 32;

/// Estimates how many bytes a value takes in a message. This is exact enough to refuse values that are too
/// large before they are written.
pub fn size(value: &Value) -> u64 {
    let all = |values: &[Value]| STRUCT + values.iter().map(size).sum::<u64>();
    let boxed = |value: &Option<Box<Value>>| STRUCT + value.as_deref().map_or(0, size);
    match value {
        Value::String(text) => STRUCT + text.len() as u64,
        Value::List(List::Values(values)) | Value::Record(values) | Value::Tuple(values) => all(values),
        Value::List(numbers) => STRUCT + large::packed(numbers).1.len() as u64,
        Value::Variant(_, payload) | Value::Option(payload) => boxed(payload),
        Value::Result(Ok(payload) | Err(payload)) => boxed(payload),
        Value::Flags(words) => STRUCT + 4 * words.len() as u64,
        _ => STRUCT,
    }
}
