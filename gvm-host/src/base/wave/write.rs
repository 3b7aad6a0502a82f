//! Writes values as WAVE text, exactly as `wasm-wave` does, and maps as lists of pairs.
//!
//! In: a value and its type. Out: text that parses as the same value (any NaN as `nan`). Must not know: how
//! text is parsed.

use std::fmt::{self, Write};

use wasm_wave::lex::Keyword;

use crate::base::value::{List, Type, Value};

/// How many bytes of a list are collected before they are written.
const CHUNK: usize = 4096;

/// Returns the value as text.
pub fn print(value: &Value, ty: &Type) -> String {
    let mut text = String::new();
    // Writing into a `String` cannot fail.
    let _ = write(&mut text, value, ty);
    text
}

/// Writes the value as text. A part that does not fit its type, which [`Value::check`] reports, is written as its
/// kind in angle brackets.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, value: &Value, ty: &Type) -> fmt::Result {
    match (ty, value) {
        (_, Value::Bool(v)) => out.write_str(if *v { "true" } else { "false" }),
        (_, Value::S8(v)) => write!(out, "{v}"),
        (_, Value::U8(v)) => write!(out, "{v}"),
        (_, Value::S16(v)) => write!(out, "{v}"),
        (_, Value::U16(v)) => write!(out, "{v}"),
        (_, Value::S32(v)) => write!(out, "{v}"),
        (_, Value::U32(v)) => write!(out, "{v}"),
        (_, Value::S64(v)) => write!(out, "{v}"),
        (_, Value::U64(v)) => write!(out, "{v}"),
        (_, Value::F32(v)) if v.is_nan() => out.write_str("nan"),
        (_, Value::F32(v)) => write!(out, "{v}"),
        (_, Value::F64(v)) if v.is_nan() => out.write_str("nan"),
        (_, Value::F64(v)) => write!(out, "{v}"),
        (_, Value::Char(v)) => {
            out.write_str("'")?;
            escaped(out, v.encode_utf8(&mut [0; 4]))?;
            out.write_str("'")
        }
        (_, Value::String(v)) => {
            out.write_str("\"")?;
            escaped(out, v)?;
            out.write_str("\"")
        }
        (Type::List(element) | Type::FixedList(element, _), Value::List(list)) => {
            write_list(out, list, element)
        }
        // WAVE has no maps. A list of pairs is their form in the canonical ABI, and keeps their order and repeated keys.
        (Type::Map(map), Value::List(list)) => write_list(out, list, &map.entry()),
        (Type::Record(fields), Value::Record(values)) => {
            out.write_str("{")?;
            // Fields that are `none` are omitted. A record without fields is written as `{:}`.
            let shown = fields.iter().zip(values).filter(|(_, value)| !matches!(value, Value::Option(None)));
            let mut empty = true;
            for (field, value) in shown {
                out.write_str(if empty { "" } else { ", " })?;
                write!(out, "{}: ", field.name)?;
                write(out, value, &field.ty)?;
                empty = false;
            }
            out.write_str(if empty { ":}" } else { "}" })
        }
        (Type::Tuple(types), Value::Tuple(values)) => {
            out.write_str("(")?;
            for (index, (ty, value)) in types.iter().zip(values).enumerate() {
                out.write_str(if index == 0 { "" } else { ", " })?;
                write(out, value, ty)?;
            }
            out.write_str(")")
        }
        (Type::Variant(cases), Value::Variant(case, payload)) => match cases.get(*case as usize) {
            Some(case) => write_case(out, &case.name, payload.as_deref(), case.ty.as_ref()),
            None => out.write_str("<variant>"),
        },
        (Type::Enum(names), Value::Enum(case)) => match names.get(*case as usize) {
            Some(name) => write_case(out, name, None, None),
            None => out.write_str("<enum>"),
        },
        (Type::Option(_), Value::Option(None)) => out.write_str("none"),
        (Type::Option(ty), Value::Option(payload)) => {
            write_payload(out, "some", payload.as_deref(), Some(ty))
        }
        (Type::Result(ty), Value::Result(Ok(payload))) => {
            write_payload(out, "ok", payload.as_deref(), ty.ok.as_ref())
        }
        (Type::Result(ty), Value::Result(Err(payload))) => {
            write_payload(out, "err", payload.as_deref(), ty.err.as_ref())
        }
        (Type::Flags(names), Value::Flags(words)) => {
            out.write_str("{")?;
            let is_set = |bit: usize| words.get(bit / 32).is_some_and(|word| word >> (bit % 32) & 1 == 1);
            let set = names.iter().enumerate().filter(|(bit, _)| is_set(*bit));
            for (index, (_, name)) in set.enumerate() {
                write!(out, "{}{name}", if index == 0 { "" } else { ", " })?;
            }
            out.write_str("}")
        }
        (_, other) => write!(out, "<{}>", other.kind()),
    }
}

/// Writes a case of a variant or an enum. A case that is also a keyword gets the mark of a label.
fn write_case(out: &mut dyn Write, name: &str, payload: Option<&Value>, ty: Option<&Type>) -> fmt::Result {
    if Keyword::decode(name).is_some() {
        out.write_str("%")?;
    }
    write_payload(out, name, payload, ty)
}

fn write_payload(out: &mut dyn Write, name: &str, payload: Option<&Value>, ty: Option<&Type>) -> fmt::Result {
    out.write_str(name)?;
    let Some(value) = payload else { return Ok(()) };
    out.write_str("(")?;
    match ty {
        Some(ty) => write(out, value, ty)?,
        None => write!(out, "<{}>", value.kind())?,
    }
    out.write_str(")")
}

fn write_list(out: &mut dyn Write, list: &List, element: &Type) -> fmt::Result {
    macro_rules! integers {
        ($items:expr) => {
            write_numbers(out, $items, |text, number| {
                decimal(text, *number < 0, number.unsigned_abs().into())
            })
        };
    }
    macro_rules! naturals {
        ($items:expr) => {
            write_numbers(out, $items, |text, number| decimal(text, false, (*number).into()))
        };
    }
    match list {
        List::S8(items) => integers!(items),
        List::S16(items) => integers!(items),
        List::S32(items) => integers!(items),
        List::S64(items) => integers!(items),
        List::U8(items) => naturals!(items),
        List::U16(items) => naturals!(items),
        List::U32(items) => naturals!(items),
        List::U64(items) => naturals!(items),
        List::F32(items) => write_numbers(out, items, |text, v| write(text, &Value::F32(*v), element)),
        List::F64(items) => write_numbers(out, items, |text, v| write(text, &Value::F64(*v), element)),
        List::Values(items) => {
            out.write_str("[")?;
            for (index, item) in items.iter().enumerate() {
                out.write_str(if index == 0 { "" } else { ", " })?;
                write(out, item, element)?;
            }
            out.write_str("]")
        }
    }
}

/// Writes numbers in chunks, so that `out` is not called for each.
fn write_numbers<T>(
    out: &mut dyn Write,
    items: &[T],
    number: impl Fn(&mut String, &T) -> fmt::Result,
) -> fmt::Result {
    let mut text = String::with_capacity(CHUNK.min(items.len() * 8 + 2));
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        number(&mut text, item)?;
        if text.len() > CHUNK {
            out.write_str(&text)?;
            text.clear();
        }
    }
    text.push(']');
    out.write_str(&text)
}

/// Writes an integer, several times faster than `fmt` does.
fn decimal(text: &mut String, negative: bool, mut number: u64) -> fmt::Result {
    if negative {
        text.push('-');
    }
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.push_str(std::str::from_utf8(&digits[start..]).map_err(|_| fmt::Error)?);
    Ok(())
}

/// Writes the characters of a string. Escapes those that WAVE requires or that a terminal would not show.
fn escaped(out: &mut dyn Write, text: &str) -> fmt::Result {
    let is_plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '\\' | '"' | '\'');
    let mut rest = text;
    while let Some(at) = rest.find(|c| !is_plain(c)) {
        out.write_str(&rest[..at])?;
        let mut chars = rest[at..].chars();
        match chars.next() {
            Some(c @ ('\\' | '"' | '\'' | '\t' | '\r' | '\n')) => write!(out, "{}", c.escape_default())?,
            Some(c) if c.is_control() => write!(out, "{}", c.escape_unicode())?,
            Some(c) => write!(out, "{}", c.escape_debug())?,
            None => {}
        }
        rest = chars.as_str();
    }
    out.write_str(rest)
}
