//! Lifts a guest's result into a host value.
//!
//! In: the result slot and the guest's memory, both untrusted. Out: a value that fits its type, or an error. Host
//! memory is charged to the hostcall fuel before it is allocated; the type limits the depth. Must not know: names of
//! fields and cases, what the value is used for.

use std::char::DecodeUtf16Error;
use std::str::Utf8Error;

use wasmtime::component::__internal::wasmtime_environ::component::{
    CanonicalAbiInfo, StringEncoding, VariantInfo,
};
use wasmtime::component::__internal::{InterfaceType, LiftContext};
use wasmtime::component::Lift;
use wasmtime::{Result, ValRaw};

use super::Fault;
use crate::base::bytes::land;
use crate::base::value::{List, Value};

/// The bit of a string's length that marks UTF-16, where the encoding may be either.
const UTF16_TAG: usize = 1 << 31;

/// Lifts the result: from the slot if one is enough, else from the memory that the slot points to.
pub(super) fn result(cx: &mut LiftContext<'_>, ty: InterfaceType, slot: &ValRaw) -> Result<Option<Value>> {
    let types = cx.types;
    let InterfaceType::Tuple(index) = ty else { return broken("the results are not a tuple") };
    let results = &types[index];
    let ty = match *results.types {
        [] => return Ok(None),
        [ty] => ty,
        _ => return broken("more than one result"),
    };
    if results.abi.flat_count(1).is_some() {
        return flat(cx, ty, slot).map(Some);
    }
    let bytes = region(cx, slot.get_u32() as usize, 1, &results.abi, "result")?;
    load(cx, ty, bytes).map(Some)
}

/// Says what an error of lifting means. No guest code runs here, and a lack of fuel is a [`Fault`] already, so any
/// other error is about the value.
pub(super) fn blame(error: wasmtime::Error) -> wasmtime::Error {
    match error.is::<Fault>() || error.is::<wasmtime::OutOfMemory>() {
        true => error,
        false => Fault::Abi(error.to_string()).into(),
    }
}

/// Consumes fuel for so many elements of a size. wasmtime's error for too little fuel has no public type.
fn charge(cx: &mut LiftContext<'_>, len: usize, size: usize) -> Result<()> {
    cx.consume_fuel_array(len, size).map_err(|_| Fault::Fuel.into())
}

/// Lifts a value whose flat form is this one slot. Such a record or tuple has one field.
fn flat(cx: &mut LiftContext<'_>, ty: InterfaceType, slot: &ValRaw) -> Result<Value> {
    let types = cx.types;
    Ok(match ty {
        InterfaceType::Bool => Value::Bool(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::S8 => Value::S8(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::U8 => Value::U8(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::S16 => Value::S16(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::U16 => Value::U16(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::S32 => Value::S32(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::U32 => Value::U32(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::S64 => Value::S64(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::U64 => Value::U64(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::Float32 => Value::F32(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::Float64 => Value::F64(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::Char => Value::Char(Lift::linear_lift_from_flat(cx, ty, slot)?),
        InterfaceType::Record(i) => match &*types[i].fields {
            [field] => Value::Record(vec![boxed(cx, |cx| flat(cx, field.ty, slot))?]),
            _ => return broken("a record that does not fit its slot"),
        },
        InterfaceType::Tuple(i) => match &*types[i].types {
            [ty] => Value::Tuple(vec![boxed(cx, |cx| flat(cx, *ty, slot))?]),
            _ => return broken("a tuple that does not fit its slot"),
        },
        InterfaceType::Enum(i) => Value::Enum(discriminant(slot.get_u32(), types[i].names.len())?),
        InterfaceType::Flags(i) => flags(cx, types[i].names.len(), std::iter::once(Ok(slot.get_u32())))?,
        InterfaceType::Variant(i) => {
            let case = discriminant(slot.get_u32(), types[i].cases.len())?;
            if types[i].cases.values().any(Option::is_some) {
                return broken("a payload that does not fit its slot");
            }
            Value::Variant(case, None)
        }
        InterfaceType::Result(i) => {
            if types[i].ok.is_some() || types[i].err.is_some() {
                return broken("a payload that does not fit its slot");
            }
            match discriminant(slot.get_u32(), 2)? {
                0 => Value::Result(Ok(None)),
                _ => Value::Result(Err(None)),
            }
        }
        _ => return unsupported(ty),
    })
}

/// Lifts a value from memory. `bytes` are those of the value, aligned as its type requires.
fn load(cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Result<Value> {
    let types = cx.types;
    Ok(match ty {
        InterfaceType::Bool => Value::Bool(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::S8 => Value::S8(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::U8 => Value::U8(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::S16 => Value::S16(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::U16 => Value::U16(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::S32 => Value::S32(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::U32 => Value::U32(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::S64 => Value::S64(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::U64 => Value::U64(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::Float32 => Value::F32(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::Float64 => Value::F64(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::Char => Value::Char(Lift::linear_lift_from_memory(cx, ty, bytes)?),
        InterfaceType::String => Value::String(text(cx, ty, bytes)?),
        InterfaceType::List(i) => Value::List(list(cx, ty, types[i].element, bytes)?),
        InterfaceType::Record(i) => {
            let fields = types[i].fields.iter().map(|field| field.ty);
            Value::Record(sequence(cx, fields, bytes)?)
        }
        InterfaceType::Tuple(i) => Value::Tuple(sequence(cx, types[i].types.iter().copied(), bytes)?),
        InterfaceType::Enum(i) => {
            let number = number(bytes, 0, types[i].abi.size32)?;
            Value::Enum(discriminant(number, types[i].names.len())?)
        }
        InterfaceType::Flags(i) => {
            let (width, labels) = (types[i].abi.size32.min(4), types[i].names.len());
            let words = (0..labels.div_ceil(32)).map(|word| number(bytes, word * 4, width));
            flags(cx, labels, words)?
        }
        InterfaceType::Variant(i) => {
            let case = case(bytes, &types[i].info, types[i].cases.len())?;
            let payload_ty = types[i].cases.get_index(case as usize).and_then(|(_, ty)| *ty);
            Value::Variant(case, payload(cx, payload_ty, &types[i].info, bytes)?)
        }
        InterfaceType::Option(i) => {
            let some = (case(bytes, &types[i].info, 2)? == 1).then_some(types[i].ty);
            Value::Option(payload(cx, some, &types[i].info, bytes)?)
        }
        InterfaceType::Result(i) => match case(bytes, &types[i].info, 2)? {
            0 => Value::Result(Ok(payload(cx, types[i].ok, &types[i].info, bytes)?)),
            _ => Value::Result(Err(payload(cx, types[i].err, &types[i].info, bytes)?)),
        },
        _ => return unsupported(ty),
    })
}

/// Lifts record fields or tuple elements, each at its own alignment.
fn sequence(
    cx: &mut LiftContext<'_>,
    types: impl ExactSizeIterator<Item = InterfaceType>,
    bytes: &[u8],
) -> Result<Vec<Value>> {
    charge(cx, types.len(), size_of::<Value>())?;
    let mut values = Vec::with_capacity(types.len());
    let mut end = 0;
    for ty in types {
        let abi = cx.types.canonical_abi(&ty);
        let at = abi.next_field32_size(&mut end);
        values.push(load(cx, ty, part(bytes, at, abi.size32 as usize)?)?);
    }
    Ok(values)
}

/// Lifts a string from its pointer and length. The pointer is checked here first, so an error of wasmtime that has no
/// type means too little fuel.
fn text(cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Result<String> {
    let (ptr, len) = (number(bytes, 0, 4)? as usize, number(bytes, 4, 4)? as usize);
    let (units, width, align) = match cx.options().string_encoding {
        StringEncoding::Utf8 => (len, 1, 1),
        StringEncoding::Utf16 => (len, 2, 2),
        StringEncoding::CompactUtf16 if len & UTF16_TAG == 0 => (len, 1, 2),
        StringEncoding::CompactUtf16 => (len ^ UTF16_TAG, 2, 2),
    };
    place(cx, ptr, units, width, align, "string")?;
    Lift::linear_lift_from_memory(cx, ty, bytes).map_err(|error| {
        let typed = error.is::<Utf8Error>() || error.is::<DecodeUtf16Error>();
        if typed || error.is::<wasmtime::OutOfMemory>() { error } else { Fault::Fuel.into() }
    })
}

/// Lifts a list from its pointer and length: numbers all at once, everything else one by one.
fn list(cx: &mut LiftContext<'_>, ty: InterfaceType, element: InterfaceType, bytes: &[u8]) -> Result<List> {
    let (ptr, len) = (number(bytes, 0, 4)? as usize, number(bytes, 4, 4)? as usize);
    let abi = cx.types.canonical_abi(&element);
    let items = region(cx, ptr, len, abi, "list")?;
    Ok(match element {
        InterfaceType::S8 => List::S8(packed(cx, ty, bytes)?),
        InterfaceType::U8 => {
            charge(cx, len, 1)?;
            List::U8(land(items))
        }
        InterfaceType::S16 => List::S16(packed(cx, ty, bytes)?),
        InterfaceType::U16 => List::U16(packed(cx, ty, bytes)?),
        InterfaceType::S32 => List::S32(packed(cx, ty, bytes)?),
        InterfaceType::U32 => List::U32(packed(cx, ty, bytes)?),
        InterfaceType::S64 => List::S64(packed(cx, ty, bytes)?),
        InterfaceType::U64 => List::U64(packed(cx, ty, bytes)?),
        InterfaceType::Float32 => List::F32(packed(cx, ty, bytes)?),
        InterfaceType::Float64 => List::F64(packed(cx, ty, bytes)?),
        _ => {
            charge(cx, len, size_of::<Value>())?;
            let mut values = Vec::with_capacity(len);
            for item in items.chunks_exact((abi.size32 as usize).max(1)) {
                values.push(load(cx, element, item)?);
            }
            List::Values(values)
        }
    })
}

/// Lifts a list of numbers. Its pointer has been checked, so an error of wasmtime means too little fuel.
fn packed<T>(cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Result<Vec<T>>
where
    Vec<T>: Lift,
{
    let lifted: Result<Vec<T>> = Lift::linear_lift_from_memory(cx, ty, bytes);
    lifted.map_err(|error| if error.is::<wasmtime::OutOfMemory>() { error } else { Fault::Fuel.into() })
}

/// Returns the bytes of `len` values of this layout, which must be aligned and within the memory.
fn region<'m>(
    cx: &LiftContext<'m>,
    ptr: usize,
    len: usize,
    abi: &CanonicalAbiInfo,
    what: &str,
) -> Result<&'m [u8]> {
    place(cx, ptr, len, abi.size32 as usize, abi.align32 as usize, what)
}

/// Returns the bytes of `len` units of this size, which must be aligned and within the memory.
fn place<'m>(
    cx: &LiftContext<'m>,
    ptr: usize,
    len: usize,
    size: usize,
    align: usize,
    what: &str,
) -> Result<&'m [u8]> {
    let memory = cx.memory();
    let end = len.checked_mul(size).and_then(|bytes| ptr.checked_add(bytes));
    let Some(bytes) = end.and_then(|end| memory.get(ptr..end)) else {
        return broken(format!("the {what}'s pointer is out of bounds: {len} elements at {ptr:#x}"));
    };
    if !ptr.is_multiple_of(align) {
        return broken(format!("the {what}'s pointer {ptr:#x} is not aligned to {align}"));
    }
    Ok(bytes)
}

/// Reads the case number at the start of a variant.
fn case(bytes: &[u8], info: &VariantInfo, cases: usize) -> Result<u32> {
    discriminant(number(bytes, 0, u32::from(info.size))?, cases)
}

/// Lifts the payload after a case's number, if the case has one.
fn payload(
    cx: &mut LiftContext<'_>,
    ty: Option<InterfaceType>,
    info: &VariantInfo,
    bytes: &[u8],
) -> Result<Option<Box<Value>>> {
    let Some(ty) = ty else { return Ok(None) };
    let size = cx.types.canonical_abi(&ty).size32 as usize;
    let bytes = part(bytes, info.payload_offset32 as usize, size)?;
    boxed(cx, |cx| load(cx, ty, bytes)).map(|value| Some(Box::new(value)))
}

/// Lifts a value that gets its own allocation.
fn boxed<'a>(
    cx: &mut LiftContext<'a>,
    lift: impl FnOnce(&mut LiftContext<'a>) -> Result<Value>,
) -> Result<Value> {
    charge(cx, 1, size_of::<Value>())?;
    lift(cx)
}

/// Lifts flags from their words. Bits beyond the labels are ignored, as the canonical ABI requires.
fn flags(cx: &mut LiftContext<'_>, labels: usize, words: impl Iterator<Item = Result<u32>>) -> Result<Value> {
    charge(cx, labels.div_ceil(32), size_of::<u32>())?;
    let mut words = words.collect::<Result<Vec<_>>>()?;
    if let (Some(last), used @ 1..) = (words.last_mut(), labels % 32) {
        *last &= (1 << used) - 1;
    }
    Ok(Value::Flags(words))
}

fn discriminant(number: u32, cases: usize) -> Result<u32> {
    if (number as usize) < cases {
        Ok(number)
    } else {
        broken(format!("the case number is {number}, but there are {cases} cases"))
    }
}

/// Reads a little-endian number of 1, 2 or 4 bytes.
fn number(bytes: &[u8], at: usize, width: u32) -> Result<u32> {
    let mut word = [0; 4];
    for (to, from) in word.iter_mut().zip(part(bytes, at, width as usize)?) {
        *to = *from;
    }
    Ok(u32::from_le_bytes(word))
}

/// Returns a part of a value's bytes. It always exists, because sizes and offsets come from the same type.
fn part(bytes: &[u8], at: usize, size: usize) -> Result<&[u8]> {
    match bytes.get(at..).and_then(|bytes| bytes.get(..size)) {
        Some(part) => Ok(part),
        None => broken("a part is outside of its value"),
    }
}

fn unsupported<T>(ty: InterfaceType) -> Result<T> {
    broken(format!("a value of type {ty:?} cannot be passed"))
}

fn broken<T>(what: impl Into<String>) -> Result<T> {
    Err(Fault::Abi(what.into()).into())
}
