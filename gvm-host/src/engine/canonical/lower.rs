//! Lowers host values into a guest.
//!
//! In: a value, and the interface type that it must have. Out: flat slots, or bytes in the guest's memory. A value
//! that does not fit is an error before it is written. Must not know: how the guest reads them, names of fields and
//! cases.

use std::mem::MaybeUninit;

use wasmtime::component::__internal::wasmtime_environ::component::{
    CanonicalAbiInfo, StringEncoding, TypeMap, VariantInfo,
};
use wasmtime::component::__internal::{InterfaceType, LowerContext};
use wasmtime::component::Lower;
use wasmtime::{Result, Trap, ValRaw, WasmBacktrace};

use super::{Fault, Slots};
use crate::base::value::{List, Value};

/// The most bytes of an encoded string: the top bit of its length marks UTF-16.
const MAX_STRING_BYTES: usize = (1 << 31) - 1;

/// Lowers all parameters: as slots if 16 are enough, else as one block of memory.
pub(super) fn params<T>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    values: &[Value],
    slots: &mut Slots,
) -> Result<()> {
    let types = cx.types;
    let InterfaceType::Tuple(index) = ty else { return misfit("the parameters are not a tuple") };
    let params = &types[index];
    if params.types.len() != values.len() {
        return misfit(format!("expected {} arguments, found {}", params.types.len(), values.len()));
    }
    if params.abi.flat_count(slots.len()).is_none() {
        let base = cx.realloc(0, 0, params.abi.align32, params.abi.size32 as usize)?;
        slots[0] = ValRaw::u64(base as u64);
        return fields(cx, params.types.iter().copied(), values, base);
    }
    let mut out = Out { slots, next: 0 };
    params.types.iter().zip(values).try_for_each(|(ty, value)| flat(cx, *ty, value, &mut out))
}

/// Says what an error of lowering means. Values that do not fit are a [`Fault`] already. An error that arose while
/// `realloc` ran is a trap, or has a backtrace. wasmtime's only other error here, which has no type, is that
/// `realloc` returned a block that is misaligned or outside of the memory.
pub(super) fn blame(error: wasmtime::Error) -> wasmtime::Error {
    let explained = error.is::<Fault>()
        || error.is::<Trap>()
        || error.is::<WasmBacktrace>()
        || error.is::<wasmtime::OutOfMemory>();
    if explained { error } else { Fault::Abi(error.to_string()).into() }
}

/// The slots, filled from the front.
struct Out<'a> {
    slots: &'a mut [ValRaw],
    next: usize,
}

impl Out<'_> {
    fn push(&mut self, raw: ValRaw) -> Result<()> {
        let Some(slot) = self.slots.get_mut(self.next) else { return misfit("too many flat values") };
        *slot = raw;
        self.next += 1;
        Ok(())
    }
}

/// Lowers a value to its flat form. `ValRaw` zero-extends a value that is narrower than a slot, as the ABI requires to
/// join the payloads of a variant's cases. Slots that a case does not use stay zero.
fn flat<T>(cx: &mut LowerContext<'_, T>, ty: InterfaceType, value: &Value, out: &mut Out<'_>) -> Result<()> {
    let types = cx.types;
    let raw = match (ty, value) {
        (InterfaceType::Bool, Value::Bool(v)) => ValRaw::u32(u32::from(*v)),
        (InterfaceType::S8, Value::S8(v)) => ValRaw::i32(i32::from(*v)),
        (InterfaceType::U8, Value::U8(v)) => ValRaw::u32(u32::from(*v)),
        (InterfaceType::S16, Value::S16(v)) => ValRaw::i32(i32::from(*v)),
        (InterfaceType::U16, Value::U16(v)) => ValRaw::u32(u32::from(*v)),
        (InterfaceType::S32, Value::S32(v)) => ValRaw::i32(*v),
        (InterfaceType::U32, Value::U32(v)) => ValRaw::u32(*v),
        (InterfaceType::S64, Value::S64(v)) => ValRaw::i64(*v),
        (InterfaceType::U64, Value::U64(v)) => ValRaw::u64(*v),
        (InterfaceType::Float32, Value::F32(v)) => ValRaw::f32(v.to_bits()),
        (InterfaceType::Float64, Value::F64(v)) => ValRaw::f64(v.to_bits()),
        (InterfaceType::Char, Value::Char(v)) => ValRaw::u32(u32::from(*v)),
        (InterfaceType::Enum(i), Value::Enum(case)) => {
            ValRaw::u32(index(*case, types[i].names.len(), "enum")?)
        }
        (InterfaceType::String, Value::String(v)) => return pair(cx, ty, sized(cx, v)?, out),
        (InterfaceType::List(i), Value::List(list)) => {
            let (ptr, len) = items(cx, types[i].element, list)?;
            out.push(ValRaw::u64(ptr as u64))?;
            ValRaw::u64(len as u64)
        }
        (InterfaceType::Map(i), Value::List(list)) => {
            let (ptr, len) = entries(cx, &types[i], list)?;
            out.push(ValRaw::u64(ptr as u64))?;
            ValRaw::u64(len as u64)
        }
        (InterfaceType::FixedLengthList(i), Value::List(list)) => {
            let (element, len) = (types[i].element, types[i].size as usize);
            count(len, list.len(), "elements")?;
            return match list {
                List::Values(_) if is_number(element) => misfit(format!("expected {element:?} elements")),
                List::Values(values) => values.iter().try_for_each(|value| flat(cx, element, value, out)),
                numbers => (0..len)
                    .filter_map(|index| numbers.get(index))
                    .try_for_each(|number| flat(cx, element, &number, out)),
            };
        }
        (InterfaceType::Record(i), Value::Record(values)) => {
            let fields = &types[i].fields;
            count(fields.len(), values.len(), "fields")?;
            return fields.iter().zip(values).try_for_each(|(field, v)| flat(cx, field.ty, v, out));
        }
        (InterfaceType::Tuple(i), Value::Tuple(values)) => {
            let elements = &types[i].types;
            count(elements.len(), values.len(), "tuple elements")?;
            return elements.iter().zip(values).try_for_each(|(ty, v)| flat(cx, *ty, v, out));
        }
        (InterfaceType::Flags(i), Value::Flags(words)) => {
            let words = bits(words, types[i].names.len())?;
            return words.iter().try_for_each(|word| out.push(ValRaw::u32(*word)));
        }
        _ => {
            let case = Case::of(cx, ty, value)?;
            return flat_case(cx, ty, &case, out);
        }
    };
    out.push(raw)
}

/// Lowers a case's number, its payload, and zeros up to the widest case.
fn flat_case<T>(
    cx: &mut LowerContext<'_, T>,
    ty: InterfaceType,
    case: &Case<'_>,
    out: &mut Out<'_>,
) -> Result<()> {
    let Some(width) = cx.types.canonical_abi(&ty).flat_count(out.slots.len()) else {
        return misfit("too many flat values");
    };
    let end = out.next + width;
    out.push(ValRaw::u32(case.number))?;
    if let Some((ty, payload)) = case.payload {
        flat(cx, ty, payload, out)?;
    }
    out.next = end;
    Ok(())
}

/// Writes a value to memory at `at`. The block that contains this address has been checked.
fn store<T>(cx: &mut LowerContext<'_, T>, ty: InterfaceType, value: &Value, at: usize) -> Result<()> {
    let types = cx.types;
    match (ty, value) {
        (InterfaceType::Bool, Value::Bool(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::S8, Value::S8(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::U8, Value::U8(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::S16, Value::S16(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::U16, Value::U16(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::S32, Value::S32(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::U32, Value::U32(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::S64, Value::S64(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::U64, Value::U64(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::Float32, Value::F32(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::Float64, Value::F64(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::Char, Value::Char(v)) => v.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::String, Value::String(v)) => sized(cx, v)?.linear_lower_to_memory(cx, ty, at),
        (InterfaceType::List(i), Value::List(list)) => {
            let (ptr, len) = items(cx, types[i].element, list)?;
            number(cx, 4, wasm32(ptr)?, at)?;
            number(cx, 4, wasm32(len)?, at + 4)
        }
        (InterfaceType::Map(i), Value::List(list)) => {
            let (ptr, len) = entries(cx, &types[i], list)?;
            number(cx, 4, wasm32(ptr)?, at)?;
            number(cx, 4, wasm32(len)?, at + 4)
        }
        (InterfaceType::FixedLengthList(i), Value::List(list)) => {
            count(types[i].size as usize, list.len(), "elements")?;
            elements(cx, types[i].element, list, |_| Ok(at)).map(drop)
        }
        (InterfaceType::Record(i), Value::Record(values)) => {
            count(types[i].fields.len(), values.len(), "fields")?;
            fields(cx, types[i].fields.iter().map(|field| field.ty), values, at)
        }
        (InterfaceType::Tuple(i), Value::Tuple(values)) => {
            count(types[i].types.len(), values.len(), "tuple elements")?;
            fields(cx, types[i].types.iter().copied(), values, at)
        }
        (InterfaceType::Enum(i), Value::Enum(case)) => {
            let case = index(*case, types[i].names.len(), "enum")?;
            number(cx, types[i].abi.size32, case, at)
        }
        (InterfaceType::Flags(i), Value::Flags(words)) => {
            let words = bits(words, types[i].names.len())?;
            let width = types[i].abi.size32.min(4);
            let mut places = (at..).step_by(4);
            words.iter().zip(&mut places).try_for_each(|(word, at)| number(cx, width, *word, at))
        }
        _ => {
            let case = Case::of(cx, ty, value)?;
            number(cx, u32::from(case.info.size), case.number, at)?;
            let Some((ty, payload)) = case.payload else { return Ok(()) };
            store(cx, ty, payload, at + case.info.payload_offset32 as usize)
        }
    }
}

/// Writes values one after another, each at its own alignment. Offsets are relative to the base, so a block at the
/// end of a 4 GiB memory does not overflow wasmtime's 32-bit sums.
fn fields<T>(
    cx: &mut LowerContext<'_, T>,
    types: impl Iterator<Item = InterfaceType>,
    values: &[Value],
    base: usize,
) -> Result<()> {
    let mut end = 0;
    for (ty, value) in types.zip(values) {
        let offset = cx.types.canonical_abi(&ty).next_field32_size(&mut end);
        store(cx, ty, value, base + offset)?;
    }
    Ok(())
}

/// Writes a list's elements to a new block. Returns its address and their number.
fn items<T>(cx: &mut LowerContext<'_, T>, element: InterfaceType, list: &List) -> Result<(usize, usize)> {
    let base = elements(cx, element, list, |cx| block(cx, cx.types.canonical_abi(&element), list.len()))?;
    Ok((base, list.len()))
}

/// Writes a map's entries to a new block, each as a tuple of its key and its value. Returns its address and their number.
fn entries<T>(cx: &mut LowerContext<'_, T>, ty: &TypeMap, list: &List) -> Result<(usize, usize)> {
    let List::Values(entries) = list else { return misfit("found numbers in a map") };
    let base = block(cx, &ty.entry_abi, entries.len())?;
    let size = ty.entry_abi.size32 as usize;
    for (index, entry) in entries.iter().enumerate() {
        let Value::Tuple(pair) = entry else {
            return misfit(format!("found a {} where a map has a key and its value", entry.kind()));
        };
        count(2, pair.len(), "tuple elements")?;
        fields(cx, [ty.key, ty.value].into_iter(), pair, base + index * size)?;
    }
    Ok((base, entries.len()))
}

/// Writes elements one after another to a place that is made for them. Returns its address.
fn elements<'a, T>(
    cx: &mut LowerContext<'a, T>,
    element: InterfaceType,
    list: &List,
    place: impl FnOnce(&mut LowerContext<'a, T>) -> Result<usize>,
) -> Result<usize> {
    macro_rules! packed {
        ($($list:ident $interface:ident),*) => {
            match (element, list) {
                $((InterfaceType::$interface, List::$list(numbers)) => {
                    let base = place(cx)?;
                    Lower::linear_store_list_to_memory(cx, element, base, numbers)?;
                    Ok(base)
                })*
                // An error before anything is written: even an empty list of numbers must have the packed form.
                ($(InterfaceType::$interface)|*, _) => misfit(format!("expected {element:?} elements")),
                (_, List::Values(values)) => {
                    let base = place(cx)?;
                    let size = cx.types.canonical_abi(&element).size32 as usize;
                    for (index, value) in values.iter().enumerate() {
                        store(cx, element, value, base + index * size)?;
                    }
                    Ok(base)
                }
                _ => misfit("found numbers in a list of another type"),
            }
        };
    }
    packed!(
        S8 S8, U8 U8, S16 S16, U16 U16, S32 S32, U32 U32, S64 S64, U64 U64, F32 Float32, F64 Float64
    )
}

/// Allocates a block for this many elements with the guest's `realloc`.
fn block<T>(cx: &mut LowerContext<'_, T>, abi: &CanonicalAbiInfo, len: usize) -> Result<usize> {
    let size = len.checked_mul(abi.size32 as usize).filter(|size| u32::try_from(*size).is_ok());
    match size {
        Some(size) => cx.realloc(0, 0, abi.align32, size),
        None => misfit(format!("a list of {len} elements is larger than a guest's memory")),
    }
}

/// Returns the string, if its encoded form fits into a guest.
fn sized<'s, T>(cx: &LowerContext<'_, T>, text: &'s str) -> Result<&'s str> {
    let bytes = match cx.options().string_encoding {
        StringEncoding::Utf8 => Some(text.len()),
        StringEncoding::Utf16 | StringEncoding::CompactUtf16 => text.len().checked_mul(2),
    };
    match bytes.filter(|bytes| *bytes <= MAX_STRING_BYTES) {
        Some(_) => Ok(text),
        None => misfit(format!("a string of {} bytes is larger than the canonical ABI allows", text.len())),
    }
}

/// Lowers a string through wasmtime, and adds its pointer and length.
fn pair<T>(cx: &mut LowerContext<'_, T>, ty: InterfaceType, text: &str, out: &mut Out<'_>) -> Result<()> {
    let mut pair = MaybeUninit::new([ValRaw::u64(0); 2]);
    text.linear_lower_to_flat(cx, ty, &mut pair)?;
    // SAFETY: both slots were initialised when `pair` was created, and each is only overwritten as a whole.
    let [ptr, len] = unsafe { pair.assume_init() };
    out.push(ptr)?;
    out.push(len)
}

/// The case of a variant, option or result value.
struct Case<'a> {
    number: u32,
    payload: Option<(InterfaceType, &'a Value)>,
    info: &'a VariantInfo,
}

impl<'a> Case<'a> {
    fn of<T>(cx: &LowerContext<'a, T>, ty: InterfaceType, value: &'a Value) -> Result<Case<'a>> {
        let types = cx.types;
        let (number, payload_ty, payload, info) = match (ty, value) {
            (InterfaceType::Variant(i), Value::Variant(case, payload)) => {
                let Some((_, payload_ty)) = types[i].cases.get_index(*case as usize) else {
                    return misfit(format!("the variant has no case {case}"));
                };
                (*case, *payload_ty, payload, &types[i].info)
            }
            (InterfaceType::Option(i), Value::Option(payload)) => {
                let some = payload.as_ref().map(|_| types[i].ty);
                (u32::from(some.is_some()), some, payload, &types[i].info)
            }
            (InterfaceType::Result(i), Value::Result(Ok(payload))) => {
                (0, types[i].ok, payload, &types[i].info)
            }
            (InterfaceType::Result(i), Value::Result(Err(payload))) => {
                (1, types[i].err, payload, &types[i].info)
            }
            _ => return misfit(format!("found a {} where the type does not allow one", value.kind())),
        };
        match (payload_ty, payload.as_deref()) {
            (None, None) => Ok(Case { number, payload: None, info }),
            (Some(ty), Some(value)) => Ok(Case { number, payload: Some((ty, value)), info }),
            (Some(_), None) => misfit(format!("case {number} needs a payload")),
            (None, Some(_)) => misfit(format!("case {number} has no payload")),
        }
    }
}

/// Writes a number of 1, 2 or 4 bytes.
fn number<T>(cx: &mut LowerContext<'_, T>, width: u32, number: u32, at: usize) -> Result<()> {
    let bytes = number.to_le_bytes();
    match width {
        1 => *cx.get::<1>(at) = [bytes[0]],
        2 => *cx.get::<2>(at) = [bytes[0], bytes[1]],
        _ => *cx.get::<4>(at) = bytes,
    }
    Ok(())
}

fn is_number(ty: InterfaceType) -> bool {
    use InterfaceType::{Float32, Float64, S8, S16, S32, S64, U8, U16, U32, U64};
    matches!(ty, S8 | U8 | S16 | U16 | S32 | U32 | S64 | U64 | Float32 | Float64)
}

/// Returns the words of a flags value, if it has only bits that have labels.
fn bits(words: &[u32], labels: usize) -> Result<&[u32]> {
    let unused = words.last().map_or(0, |last| match labels % 32 {
        0 => 0,
        used => last >> used,
    });
    if words.len() != labels.div_ceil(32) || unused != 0 {
        return misfit(format!("the value does not have the {labels} flags of the type"));
    }
    Ok(words)
}

fn index(case: u32, cases: usize, what: &str) -> Result<u32> {
    if (case as usize) < cases { Ok(case) } else { misfit(format!("the {what} has no case {case}")) }
}

fn count(expected: usize, found: usize, what: &str) -> Result<()> {
    if expected == found { Ok(()) } else { misfit(format!("expected {expected} {what}, found {found}")) }
}

fn wasm32(number: usize) -> Result<u32> {
    match u32::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) => misfit(format!("{number} does not fit into a 32-bit memory")),
    }
}

fn misfit<T>(what: impl Into<String>) -> Result<T> {
    Err(Fault::Value(what.into()).into())
}
