//! Parses WAVE text.
//!
//! In: text, and a type or signature. Out: values that fit it, or a [`Misread`]. Stricter than `wasm-wave` in one
//! thing: an unknown field of a record is an error. Must not know: how values are printed.

use std::collections::HashMap;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use wasm_wave::ast::{Node, NodeType};
use wasm_wave::parser::{ParserError, ParserErrorKind};
use wasm_wave::untyped::UntypedValue;

use super::Misread;
use crate::base::near;
use crate::base::value::{Case, Field, FuncType, List, ResultType, Type, Value, wrong_length};

type Result<T> = std::result::Result<T, Misread>;

/// Parses one value, which must be the whole text.
///
/// # Errors
/// A [`Misread`] at the first place that is not WAVE or does not fit the type.
pub fn parse(text: &str, ty: &Type) -> Result<Value> {
    let parsed = UntypedValue::parse(text).map_err(|error| grammar(&error, text))?;
    Reader { text }.value(parsed.node(), ty)
}

/// Parses the text between the parentheses of a call: values separated by commas. Optional parameters
/// at the end may be omitted.
///
/// # Errors
/// Those of [`parse`], and too few or too many arguments.
pub fn parse_args(text: &str, func: &FuncType) -> Result<Vec<Value>> {
    // The grammar has tuples, but no sequences without parentheses. The newline ends a comment in the last line.
    let wrapped = format!("({text}\n)");
    let unwrap = |misread: Misread| {
        let place = |at: usize| at.saturating_sub(1).min(text.len());
        Misread { span: place(misread.span.start)..place(misread.span.end), ..misread }
    };
    let reader = Reader { text: &wrapped };
    match UntypedValue::parse(&wrapped) {
        Ok(parsed) => reader.args(parsed.node(), func).map_err(unwrap),
        Err(error) if error.kind() == ParserErrorKind::EmptyTuple && error.span().start == 0 => {
            omitted(&[], func, text.len()..text.len())
        }
        Err(error) => Err(unwrap(grammar(&error, &wrapped))),
    }
}

/// Returns the given arguments, and `none` for each optional parameter after them.
fn omitted(given: &[Value], func: &FuncType, end: Range<usize>) -> Result<Vec<Value>> {
    let mut values = given.to_vec();
    for param in func.params.iter().skip(given.len()) {
        if !matches!(param.ty, Type::Option(_)) {
            let message = format!("missing argument `{}: {}`", param.name, param.ty);
            return Err(Misread { span: end, message, help: None });
        }
        values.push(Value::Option(None));
    }
    Ok(values)
}

struct Reader<'a> {
    text: &'a str,
}

impl<'a> Reader<'a> {
    fn args(&self, node: &Node, func: &FuncType) -> Result<Vec<Value>> {
        let mut values = Vec::with_capacity(func.params.len());
        for node in node.as_tuple().map_err(|error| self.grammar(&error))? {
            let Some(param) = func.params.get(values.len()) else {
                let expected = func.params.len();
                return Err(at(node, format!("too many arguments: the function takes {expected}")));
            };
            values.push(self.value(node, &param.ty)?);
        }
        let end = node.span().end;
        omitted(&values, func, end.saturating_sub(2)..end)
    }

    fn value(&self, node: &Node, ty: &Type) -> Result<Value> {
        let shape = |error: ParserError| self.shape(node, ty, &error);
        Ok(match ty {
            Type::Bool => Value::Bool(node.as_bool().map_err(shape)?),
            Type::S8 => Value::S8(self.number(node, ty)?),
            Type::U8 => Value::U8(self.number(node, ty)?),
            Type::S16 => Value::S16(self.number(node, ty)?),
            Type::U16 => Value::U16(self.number(node, ty)?),
            Type::S32 => Value::S32(self.number(node, ty)?),
            Type::U32 => Value::U32(self.number(node, ty)?),
            Type::S64 => Value::S64(self.number(node, ty)?),
            Type::U64 => Value::U64(self.number(node, ty)?),
            Type::F32 => Value::F32(self.number(node, ty)?),
            Type::F64 => Value::F64(self.number(node, ty)?),
            Type::Char => Value::Char(node.as_char(self.text).map_err(shape)?),
            Type::String => Value::String(node.as_str(self.text).map_err(shape)?.into_owned()),
            Type::List(element) => Value::List(self.list(node, ty, element)?),
            Type::FixedList(element, length) => {
                let list = self.list(node, ty, element)?;
                if list.len() != *length as usize {
                    return Err(at(node, wrong_length(ty, list.len())));
                }
                Value::List(list)
            }
            Type::Map(map) => Value::List(self.list(node, ty, &map.entry())?),
            Type::Record(fields) => self.record(node, ty, fields)?,
            Type::Tuple(types) => {
                let nodes = node.as_tuple().map_err(shape)?;
                if nodes.len() != types.len() {
                    let found = nodes.len();
                    return Err(at(node, format!("expected {} elements, found {found}", types.len())));
                }
                let values = types.iter().zip(nodes).map(|(ty, node)| self.value(node, ty));
                Value::Tuple(values.collect::<Result<_>>()?)
            }
            Type::Variant(cases) => self.variant(node, ty, cases)?,
            Type::Enum(names) => {
                let label = node.as_enum(self.text).map_err(shape)?;
                match names.iter().position(|name| **name == *label) {
                    Some(case) => Value::Enum(case as u32),
                    None => return Err(unknown(node.span(), "case", label, names)),
                }
            }
            Type::Option(payload) => self.option(node, ty, payload)?,
            Type::Result(payloads) => self.result(node, ty, payloads)?,
            Type::Flags(names) => {
                let labels = node.as_flags(self.text).map_err(shape)?;
                let mut words = vec![0u32; names.len().div_ceil(32)];
                for label in labels {
                    let plain = label.trim_start_matches('%');
                    let Some(bit) = names.iter().position(|name| **name == *plain) else {
                        return Err(unknown(self.span_of(label), "flag", plain, names));
                    };
                    words[bit / 32] |= 1 << (bit % 32);
                }
                Value::Flags(words)
            }
            Type::Unsupported(name) => {
                return Err(at(node, format!("a value of type `{name}` cannot be written as text")));
            }
        })
    }

    fn number<T: FromStr>(&self, node: &Node, ty: &Type) -> Result<T> {
        node.as_number(self.text).map_err(|error| self.shape(node, ty, &error))
    }

    fn list(&self, node: &Node, ty: &Type, element: &Type) -> Result<List> {
        let nodes = node.as_list().map_err(|error| self.shape(node, ty, &error))?;
        macro_rules! packed {
            ($($ty:ident)*) => {
                Ok(match element {
                    $(Type::$ty => {
                        List::$ty(nodes.map(|node| self.number(node, element)).collect::<Result<_>>()?)
                    })*
                    _ => List::Values(nodes.map(|node| self.value(node, element)).collect::<Result<_>>()?),
                })
            };
        }
        packed!(S8 U8 S16 U16 S32 U32 S64 U64 F32 F64)
    }

    fn record(&self, node: &Node, ty: &Type, fields: &[Field]) -> Result<Value> {
        let given = node.as_record(self.text).map_err(|error| self.shape(node, ty, &error))?;
        let mut given: HashMap<&str, &Node> = given.collect();
        // Report the first unknown field, before missing ones: it is probably the misspelled name of one.
        let unknown_label = |label: &&&str| fields.iter().all(|field| *field.name != ***label);
        if let Some(label) = given.keys().filter(unknown_label).min_by_key(|label| label.as_ptr()) {
            let names: Vec<_> = fields.iter().map(|field| field.name.clone()).collect();
            return Err(unknown(self.span_of(label), "field", label, &names));
        }
        let mut values = Vec::with_capacity(fields.len());
        for field in fields {
            values.push(match (given.remove(&*field.name), &field.ty) {
                (Some(node), ty) => self.value(node, ty)?,
                (None, Type::Option(_)) => Value::Option(None),
                (None, ty) => return Err(at(node, format!("missing field `{}: {ty}`", field.name))),
            });
        }
        Ok(Value::Record(values))
    }

    fn variant(&self, node: &Node, ty: &Type, cases: &[Case]) -> Result<Value> {
        let (label, payload) = node.as_variant(self.text).map_err(|error| self.shape(node, ty, &error))?;
        let Some(number) = cases.iter().position(|case| *case.name == *label) else {
            let names: Vec<_> = cases.iter().map(|case| case.name.clone()).collect();
            return Err(unknown(self.span_of(label), "case", label, &names));
        };
        let payload = self.payload(node, label, cases[number].ty.as_ref(), payload)?;
        Ok(Value::Variant(number as u32, payload))
    }

    fn option(&self, node: &Node, ty: &Type, payload: &Type) -> Result<Value> {
        Ok(Value::Option(match node.as_option() {
            Ok(None) => None,
            Ok(given) => self.payload(node, "some", Some(payload), given)?,
            Err(error) => {
                self.case_of(node, payload, "some")?;
                match may_be_bare(payload) {
                    true => Some(Box::new(self.value(node, payload)?)),
                    false => return Err(self.shape(node, ty, &error)),
                }
            }
        }))
    }

    fn result(&self, node: &Node, ty: &Type, payloads: &ResultType) -> Result<Value> {
        Ok(Value::Result(match (node.as_result(), &payloads.ok) {
            (Ok(Ok(given)), ok) => Ok(self.payload(node, "ok", ok.as_ref(), given)?),
            (Ok(Err(given)), _) => Err(self.payload(node, "err", payloads.err.as_ref(), given)?),
            (Err(error), ok) => {
                self.case_of(node, ok.as_ref().unwrap_or(ty), "ok")?;
                match ok {
                    Some(ok) if may_be_bare(ok) => Ok(Some(Box::new(self.value(node, ok)?))),
                    _ => return Err(self.shape(node, ty, &error)),
                }
            }
        }))
    }

    /// Returns an error if the text is a case with a payload and the type is not a variant: `sme(1)` is a
    /// misspelled `some(1)`.
    fn case_of(&self, node: &Node, ty: &Type, meant: &str) -> Result<()> {
        if node.ty() != NodeType::VariantWithPayload || matches!(ty, Type::Variant(_)) {
            return Ok(());
        }
        let (label, _) = node.as_variant(self.text).map_err(|error| self.shape(node, ty, &error))?;
        let names: &[Arc<str>] =
            if meant == "some" { &["some".into(), "none".into()] } else { &["ok".into(), "err".into()] };
        Err(unknown(self.span_of(label), "case", label, names))
    }

    fn payload(
        &self,
        node: &Node,
        case: &str,
        ty: Option<&Type>,
        given: Option<&Node>,
    ) -> Result<Option<Box<Value>>> {
        match (ty, given) {
            (None, None) => Ok(None),
            (Some(ty), Some(node)) => self.value(node, ty).map(|value| Some(Box::new(value))),
            (Some(ty), None) => Err(at(node, format!("the case `{case}` needs a payload of type {ty}"))),
            (None, Some(given)) => Err(at(given, format!("the case `{case}` takes no payload"))),
        }
    }

    /// Returns the error for a node that is not a value of the type.
    fn shape(&self, node: &Node, ty: &Type, error: &ParserError) -> Misread {
        let text = self.text.get(node.span()).unwrap_or_default();
        match error.kind() {
            ParserErrorKind::InvalidType => {
                let found = match node.ty() {
                    NodeType::Label => format!("the word `{text}`"),
                    other => describe(other).to_owned(),
                };
                let help = notation(ty, node.ty()).map(str::to_owned);
                Misread { help, ..at(node, format!("expected {ty}, found {found}")) }
            }
            ParserErrorKind::InvalidValue => at(node, format!("`{text}` is not a valid {ty}")),
            _ => self.grammar(error),
        }
    }

    fn grammar(&self, error: &ParserError) -> Misread {
        grammar(error, self.text)
    }

    /// Returns the place of a label, which is a slice of the text.
    fn span_of(&self, label: &str) -> Range<usize> {
        let start = (label.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        start..start + label.len()
    }
}

/// Returns whether `some(…)` or `ok(…)` may be omitted around a value of this type.
fn may_be_bare(ty: &Type) -> bool {
    !matches!(ty, Type::Option(_) | Type::Result(_))
}

fn at(node: &Node, message: String) -> Misread {
    Misread { span: node.span(), message, help: None }
}

/// Returns the error for a name that the type does not have.
fn unknown(span: Range<usize>, what: &str, label: &str, names: &[Arc<str>]) -> Misread {
    let near = near::nearest(label, names.iter().map(|name| &**name));
    let near = near.first().map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
    let help = (!names.is_empty()).then(|| format!("use one of: {}", names.join(", ")));
    Misread { span, message: format!("unknown {what} `{label}`{near}"), help }
}

/// Returns how to write a value of the type, where people often write it in another way.
fn notation(ty: &Type, found: NodeType) -> Option<&'static str> {
    match (ty, found) {
        (Type::String, NodeType::Label | NodeType::Char) => Some("write a string in double quotes"),
        (Type::Char, NodeType::Label | NodeType::String) => Some("write a char in single quotes"),
        (Type::Bool, NodeType::Label | NodeType::Number) => Some("write `true` or `false`"),
        (Type::Flags(_), NodeType::Label | NodeType::List) => Some("write flags in braces: `{a, b}`"),
        (Type::Enum(_), NodeType::String) => Some("write a case without quotes"),
        (Type::Map(_), NodeType::Record | NodeType::Flags | NodeType::Tuple) => {
            Some("write a map as a list of pairs: `[(key, value), (key, value)]`")
        }
        _ => None,
    }
}

/// Converts an error of the grammar.
fn grammar(error: &ParserError, text: &str) -> Misread {
    let span = whole_word(text, error.span());
    let token = text.get(span.clone()).unwrap_or_default();
    let message = match (error.kind(), error.detail()) {
        (ParserErrorKind::UnexpectedEnd, _) => "the text ends before the value is complete".to_owned(),
        (ParserErrorKind::UnexpectedToken, _) => format!("unexpected `{token}`"),
        (ParserErrorKind::InvalidToken, _) => format!("cannot parse `{token}`"),
        (ParserErrorKind::TrailingCharacters, _) => format!("unexpected `{token}` after the value"),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let help = match error.kind() {
        ParserErrorKind::InvalidToken if token.starts_with('\'') => {
            Some("write a char as one character in single quotes, and a string in double quotes")
        }
        ParserErrorKind::InvalidToken if token.starts_with('"') => Some(
            "end the string with `\"`; the escapes are `\\\\`, `\\\"`, `\\'`, `\\t`, `\\r`, `\\n` and `\\u{1f47b}`",
        ),
        _ => None,
    };
    Misread { span, message, help: help.map(str::to_owned) }
}

/// Returns the span, extended to whole words: a person sees `0x10` as one word.
fn whole_word(text: &str, span: Range<usize>) -> Range<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let Some(token) = text.get(span.clone()) else { return span };
    if !token.starts_with(part) {
        return span;
    }
    let before = &text[..span.start];
    let start = before.trim_end_matches(part).len();
    let after = &text[span.end..];
    let end = span.end + (after.len() - after.trim_start_matches(part).len());
    start..end
}

fn describe(ty: NodeType) -> &'static str {
    match ty {
        NodeType::BoolTrue | NodeType::BoolFalse => "a bool",
        NodeType::Number => "a number",
        NodeType::Char => "a char",
        NodeType::String | NodeType::MultilineString => "a string",
        NodeType::Tuple => "a tuple",
        NodeType::List => "a list",
        NodeType::Record => "a record",
        NodeType::Label => "a bare word",
        NodeType::VariantWithPayload => "a case with a payload",
        NodeType::OptionSome | NodeType::OptionNone => "an option",
        NodeType::ResultOk | NodeType::ResultErr => "a result",
        NodeType::Flags => "flags",
    }
}
