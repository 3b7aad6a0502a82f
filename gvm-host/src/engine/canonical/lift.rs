//! Lifts a guest's result into a host value.
//!
//! In: the result's slots and the guest's memory, both untrusted. Out: a value that fits its type, or an error. Host
//! memory is charged to the hostcall fuel before it is allocated; the type limits the depth. Must not know: names of
//! fields and cases, what the value is used for.

use std::char::DecodeUtf16Error;
use std::str::Utf8Error;

use wasmtime::component::__internal::wasmtime_environ::component::{
    CanonicalAbiInfo, MAX_FLAT_PARAMS, StringEncoding, TypeMap, VariantInfo,
};
use wasmtime::component::__internal::{InterfaceType, LiftContext};
use wasmtime::component::Lift;
use wasmtime::{Result, ValRaw};

use super::Fault;
use crate::base::bytes::land;
use crate::base::value::{List, Type, Value};

/// What is left of the flat form of a result.
type Slots<'a> = std::slice::Iter<'a, ValRaw>;

/// The bit of a string's length that marks UTF-16, where the encoding may be either.
const UTF16_TAG: usize = 1 << 31;

/// Lifts the result: from the slots if these are enough, else from the memory that the first slot points to.
pub(super) fn result(
    cx: &mut LiftContext<'_>,
    ty: InterfaceType,
    slots: &[ValRaw],
    most: usize,
) -> Result<Option<Value>> {
    let types = cx.types;
    let InterfaceType::Tuple(index) = ty else { return broken("the results are not a tuple") };
    let results = &types[index];
    let ty = match *results.types {
        [] => return Ok(None),
        [ty] => ty,
        _ => return broken("more than one result"),
    };
    let slots = &mut slots.iter();
    if results.abi.flat_count(most).is_some() {
        return flat(cx, ty, slots).map(Some);
    }
    let bytes = region(cx, next(slots)?.get_u32() as usize, 1, &results.abi, "result")?;
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

/// Returns the next slot.
fn next<'a>(slots: &mut Slots<'a>) -> Result<&'a ValRaw> {
    match slots.next() {
        Some(slot) => Ok(slot),
        None => broken("a value that does not fit its slots"),
    }
}

/// Lifts a value from its flat form, which these slots begin with. Only the value's own slots are taken.
fn flat(cx: &mut LiftContext<'_>, ty: InterfaceType, slots: &mut Slots<'_>) -> Result<Value> {
    let types = cx.types;
    Ok(match ty {
        InterfaceType::Bool => Value::Bool(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::S8 => Value::S8(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::U8 => Value::U8(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::S16 => Value::S16(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::U16 => Value::U16(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::S32 => Value::S32(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::U32 => Value::U32(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::S64 => Value::S64(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::U64 => Value::U64(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::Float32 => Value::F32(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::Float64 => Value::F64(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        InterfaceType::Char => Value::Char(Lift::linear_lift_from_flat(cx, ty, next(slots)?)?),
        // A pointer and a length in slots are lifted as from memory.
        InterfaceType::String | InterfaceType::List(_) | InterfaceType::Map(_) => {
            let (ptr, len) = (next(slots)?.get_u32(), next(slots)?.get_u32());
            let mut pair = [0; 8];
            pair[..4].copy_from_slice(&ptr.to_le_bytes());
            pair[4..].copy_from_slice(&len.to_le_bytes());
            load(cx, ty, &pair)?
        }
        InterfaceType::FixedLengthList(i) => {
            let (element, len) = (types[i].element, types[i].size as usize);
            charge(cx, len, size_of::<Value>())?;
            let values = (0..len).map(|_| flat(cx, element, slots)).collect::<Result<Vec<_>>>()?;
            Value::List(packed_values(element, values)?)
        }
        InterfaceType::Record(i) => {
            let fields = &types[i].fields;
            charge(cx, fields.len(), size_of::<Value>())?;
            Value::Record(fields.iter().map(|field| flat(cx, field.ty, slots)).collect::<Result<_>>()?)
        }
        InterfaceType::Tuple(i) => {
            let elements = &types[i].types;
            charge(cx, elements.len(), size_of::<Value>())?;
            Value::Tuple(elements.iter().map(|ty| flat(cx, *ty, slots)).collect::<Result<_>>()?)
        }
        InterfaceType::Enum(i) => Value::Enum(discriminant(next(slots)?.get_u32(), types[i].names.len())?),
        InterfaceType::Flags(i) => {
            let labels = types[i].names.len();
            let words = (0..labels.div_ceil(32)).map(|_| next(slots).map(ValRaw::get_u32));
            flags(cx, labels, words)?
        }
        InterfaceType::Variant(i) => {
            let case = discriminant(next(slots)?.get_u32(), types[i].cases.len())?;
            let payload_ty = types[i].cases.get_index(case as usize).and_then(|(_, ty)| *ty);
            Value::Variant(case, flat_payload(cx, payload_ty, &types[i].abi, slots)?)
        }
        InterfaceType::Option(i) => {
            let some = (discriminant(next(slots)?.get_u32(), 2)? == 1).then_some(types[i].ty);
            Value::Option(flat_payload(cx, some, &types[i].abi, slots)?)
        }
        InterfaceType::Result(i) => match discriminant(next(slots)?.get_u32(), 2)? {
            0 => Value::Result(Ok(flat_payload(cx, types[i].ok, &types[i].abi, slots)?)),
            _ => Value::Result(Err(flat_payload(cx, types[i].err, &types[i].abi, slots)?)),
        },
        _ => return unsupported(ty),
    })
}

/// Lifts the payload of a case from the slots after its number, and skips those that only other cases use. All cases
/// share the slots, which are as wide as the widest of them; a narrower number is in the low bits.
fn flat_payload(
    cx: &mut LiftContext<'_>,
    ty: Option<InterfaceType>,
    abi: &CanonicalAbiInfo,
    slots: &mut Slots<'_>,
) -> Result<Option<Box<Value>>> {
    let Some(width) = abi.flat_count(MAX_FLAT_PARAMS) else { return broken("a case that needs memory") };
    let (mut own, rest) = match slots.as_slice().split_at_checked(width - 1) {
        Some((own, rest)) => (own.iter(), rest.iter()),
        None => return broken("a value that does not fit its slots"),
    };
    *slots = rest;
    let Some(ty) = ty else { return Ok(None) };
    boxed(cx, |cx| flat(cx, ty, &mut own)).map(|value| Some(Box::new(value)))
}

/// Packs the elements of a list, if they are numbers.
fn packed_values(element: InterfaceType, values: Vec<Value>) -> Result<List> {
    let element = match element {
        InterfaceType::S8 => Type::S8,
        InterfaceType::U8 => Type::U8,
        InterfaceType::S16 => Type::S16,
        InterfaceType::U16 => Type::U16,
        InterfaceType::S32 => Type::S32,
        InterfaceType::U32 => Type::U32,
        InterfaceType::S64 => Type::S64,
        InterfaceType::U64 => Type::U64,
        InterfaceType::Float32 => Type::F32,
        InterfaceType::Float64 => Type::F64,
        _ => return Ok(List::Values(values)),
    };
    List::collect(&element, values).or_else(|error| broken(error.message().to_owned()))
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
        InterfaceType::FixedLengthList(i) => {
            Value::List(inline(cx, types[i].element, types[i].size as usize, bytes)?)
        }
        InterfaceType::Map(i) => Value::List(List::Values(map(cx, &types[i], bytes)?)),
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
        _ => List::Values(each(cx, element, len, items)?),
    })
}

/// Lifts the elements of a fixed-length list, which lie in the value itself.
fn inline(cx: &mut LiftContext<'_>, element: InterfaceType, len: usize, items: &[u8]) -> Result<List> {
    /// Copies numbers, which lie in memory as they do here.
    fn numbers<T: bytemuck::AnyBitPattern + bytemuck::NoUninit>(
        cx: &mut LiftContext<'_>,
        len: usize,
        items: &[u8],
    ) -> Result<Vec<T>> {
        charge(cx, len, size_of::<T>())?;
        let Some(items) = len.checked_mul(size_of::<T>()).and_then(|size| items.get(..size)) else {
            return broken("a part is outside of its value");
        };
        Ok(bytemuck::pod_collect_to_vec(items))
    }
    Ok(match element {
        InterfaceType::S8 => List::S8(numbers(cx, len, items)?),
        InterfaceType::U8 => List::U8(numbers(cx, len, items)?.into()),
        InterfaceType::S16 => List::S16(numbers(cx, len, items)?),
        InterfaceType::U16 => List::U16(numbers(cx, len, items)?),
        InterfaceType::S32 => List::S32(numbers(cx, len, items)?),
        InterfaceType::U32 => List::U32(numbers(cx, len, items)?),
        InterfaceType::S64 => List::S64(numbers(cx, len, items)?),
        InterfaceType::U64 => List::U64(numbers(cx, len, items)?),
        InterfaceType::Float32 => List::F32(numbers(cx, len, items)?),
        InterfaceType::Float64 => List::F64(numbers(cx, len, items)?),
        _ => List::Values(each(cx, element, len, items)?),
    })
}

/// Lifts elements that lie one after another.
fn each(cx: &mut LiftContext<'_>, element: InterfaceType, len: usize, items: &[u8]) -> Result<Vec<Value>> {
    let size = cx.types.canonical_abi(&element).size32 as usize;
    charge(cx, len, size_of::<Value>())?;
    let mut values = Vec::with_capacity(len);
    for item in items.chunks_exact(size.max(1)) {
        values.push(load(cx, element, item)?);
    }
    Ok(values)
}

/// Lifts a map from its pointer and length: each entry is a tuple of its key and its value.
fn map(cx: &mut LiftContext<'_>, ty: &TypeMap, bytes: &[u8]) -> Result<Vec<Value>> {
    let (ptr, len) = (number(bytes, 0, 4)? as usize, number(bytes, 4, 4)? as usize);
    let items = region(cx, ptr, len, &ty.entry_abi, "map")?;
    charge(cx, len, size_of::<Value>())?;
    let mut entries = Vec::with_capacity(len);
    for item in items.chunks_exact((ty.entry_abi.size32 as usize).max(1)) {
        entries.push(Value::Tuple(sequence(cx, [ty.key, ty.value].into_iter(), item)?));
    }
    Ok(entries)
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
