//! Converts Python objects into WIT values, in one pass.
//!
//! In: an object and the plan of its WIT type. Out: the value, or what does not fit and where. Numbers never
//! wrap or lose digits silently. Must not know: calls.

use gvm_host::{List, Type, Value, wrong_length};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFrozenSet, PyList, PyMapping, PySet, PyString, PyTuple, PyType,
};

use crate::bytes::bytes_of;
use crate::numbers;
use crate::plan::{Names, Plan, Record, Shape};
use crate::scalars::{float32, float64, integer};

/// Why an object is not a value of its type.
pub enum Bad {
    /// What does not fit, where in the argument, and what the caller can do.
    Misfit { path: String, message: String, help: Option<&'static str> },
    /// What Python code of the object raised.
    Raised(PyErr),
}

type Result<T> = std::result::Result<T, Bad>;

impl Bad {
    pub fn new(message: impl Into<String>) -> Bad {
        Bad::Misfit { path: String::new(), message: message.into(), help: None }
    }

    /// The same with what the caller can do.
    pub fn with_help(self, advice: &'static str) -> Bad {
        match self {
            Bad::Misfit { path, message, help: _ } => Bad::Misfit { path, message, help: Some(advice) },
            raised => raised,
        }
    }

    /// The same, inside this part of the argument.
    pub fn at(self, part: impl std::fmt::Display) -> Bad {
        match self {
            Bad::Misfit { path, message, help } => {
                Bad::Misfit { path: format!("{part}{path}"), message, help }
            }
            raised => raised,
        }
    }
}

impl From<PyErr> for Bad {
    fn from(error: PyErr) -> Bad {
        Bad::Raised(error)
    }
}

/// Returns the error for an object of another type.
pub fn expected(ty: &Type, found: &Bound<'_, PyAny>) -> Bad {
    let found = found.get_type().name().map_or_else(|_| "an object".to_owned(), |name| name.to_string());
    Bad::new(format!("expected {ty}, found {found}"))
}

/// Converts an object into a value of this type.
///
/// # Errors
/// [`Bad`].
pub fn value(plan: &Plan, object: &Bound<'_, PyAny>) -> Result<Value> {
    let ty = &plan.ty;
    match &plan.shape {
        Shape::Plain => plain(ty, object),
        Shape::List(element) => {
            let list = list(ty, element, object)?;
            match ty {
                Type::FixedList(_, length) if list.len() != *length as usize => {
                    Err(Bad::new(wrong_length(ty, list.len())))
                }
                _ => Ok(Value::List(list)),
            }
        }
        Shape::Map { key, value } => map(ty, key, value, object),
        Shape::Record(plan) => record(ty, plan, object),
        Shape::Tuple(plans) => tuple(ty, plans, object),
        Shape::Variant(names, payloads) => variant(ty, names, payloads, object),
        Shape::Enum(names) => case_name(ty, names, object).map(|place| Value::Enum(place as u32)),
        Shape::Option { some, .. } => option(some, object),
        Shape::Result { ok, err } => result(ty, ok.as_deref(), err.as_deref(), object),
        Shape::Flags(names) => flags(ty, names, object),
    }
}

fn plain(ty: &Type, object: &Bound<'_, PyAny>) -> Result<Value> {
    match ty {
        Type::Bool => bool(object).map(Value::Bool).ok_or_else(|| expected(ty, object)),
        Type::S8 => integer(ty, object).map(Value::S8),
        Type::U8 => integer(ty, object).map(Value::U8),
        Type::S16 => integer(ty, object).map(Value::S16),
        Type::U16 => integer(ty, object).map(Value::U16),
        Type::S32 => integer(ty, object).map(Value::S32),
        Type::U32 => integer(ty, object).map(Value::U32),
        Type::S64 => integer(ty, object).map(Value::S64),
        Type::U64 => integer(ty, object).map(Value::U64),
        Type::F32 => float32(ty, object).map(Value::F32),
        Type::F64 => float64(ty, object).map(Value::F64),
        Type::Char => {
            let mut chars = text(ty, object)?.chars();
            match (chars.next(), chars.next()) {
                (Some(char), None) => Ok(Value::Char(char)),
                _ => Err(Bad::new("expected char, found a str that is not one character long")),
            }
        }
        Type::String => text(ty, object).map(|text| Value::String(text.to_owned())),
        _ => Err(Bad::new(format!("values of type {ty} cannot be passed in this version"))),
    }
}

fn bool(object: &Bound<'_, PyAny>) -> Option<bool> {
    if let Ok(bool) = object.cast::<PyBool>() {
        return Some(bool.is_true());
    }
    // A bool of NumPy is not a Python bool.
    let ty = object.get_type();
    let numpy = ty.name().is_ok_and(|name| name == "bool" || name == "bool_")
        && ty.module().is_ok_and(|module| module == "numpy");
    numpy.then(|| object.is_truthy().ok()).flatten()
}

fn text<'a>(ty: &Type, object: &'a Bound<'_, PyAny>) -> Result<&'a str> {
    let text = object.cast::<PyString>().map_err(|_| expected(ty, object))?;
    text.to_str().map_err(|_| {
        Bad::new(format!(
            "expected {ty}, found a str with a lone surrogate, which is not a Unicode character"
        ))
    })
}

fn list(ty: &Type, element: &Plan, object: &Bound<'_, PyAny>) -> Result<List> {
    if numbers::is_masked(object)? {
        return Err(numbers::masked(ty, object)?);
    }
    let packed = element.ty.is_number();
    if packed {
        if let (Type::U8, Ok(bytes)) = (&element.ty, object.cast::<PyBytes>()) {
            return Ok(List::U8(bytes_of(bytes)));
        }
        if !object.is_instance_of::<PyList>()
            && let Ok(buffer) = PyUntypedBuffer::get(object)
        {
            return numbers::from_buffer(object.py(), &buffer, &element.ty);
        }
    }
    let unordered = object.is_instance_of::<PyString>()
        || object.is_instance_of::<PyBytes>()
        || object.is_instance_of::<PyByteArray>()
        || object.is_instance_of::<PySet>()
        || object.is_instance_of::<PyFrozenSet>()
        || object.cast::<PyMapping>().is_ok();
    if unordered {
        return Err(expected(ty, object));
    }
    macro_rules! collect {
        ($($kind:ident $read:ident),*) => {
            match &element.ty {
                $(Type::$kind => List::$kind(elements(ty, object, |item| $read(&element.ty, item))?),)*
                _ => List::Values(elements(ty, object, |item| value(element, item))?),
            }
        };
    }
    Ok(collect!(
        S8 integer, U8 integer, S16 integer, U16 integer, S32 integer, U32 integer, S64 integer, U64 integer,
        F32 float32, F64 float64
    ))
}

fn map(ty: &Type, key_plan: &Plan, value_plan: &Plan, object: &Bound<'_, PyAny>) -> Result<Value> {
    let Ok(mapping) = object.cast::<PyMapping>() else {
        return Err(expected(ty, object).with_help("pass a dict"));
    };
    let entry = |pair: Bound<'_, PyAny>| {
        let (key, item) = pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        let at = |bad: Bad| match key.repr() {
            Ok(shown) => {
                bad.at(format_args!("[{}]", shown.to_string_lossy().chars().take(40).collect::<String>()))
            }
            Err(raised) => raised.into(),
        };
        let pair = vec![value(key_plan, &key).map_err(at)?, value(value_plan, &item).map_err(at)?];
        Ok(Value::Tuple(pair))
    };
    let entries = mapping.items()?.iter().map(entry).collect::<Result<Vec<_>>>()?;
    Ok(Value::List(List::Values(entries)))
}

fn elements<T, C: FromIterator<T>>(
    ty: &Type,
    object: &Bound<'_, PyAny>,
    read: impl Fn(&Bound<'_, PyAny>) -> Result<T>,
) -> Result<C> {
    let numbered = |(place, item): (usize, Bound<'_, PyAny>)| {
        read(&item).map_err(|bad| bad.at(format_args!("[{place}]")))
    };
    if let Ok(list) = object.cast::<PyList>() {
        return list.iter().enumerate().map(numbered).collect();
    }
    let items = object.try_iter().map_err(|_| expected(ty, object))?;
    items.enumerate().map(|(place, item)| numbered((place, item?))).collect()
}

fn record(ty: &Type, plan: &Record, object: &Bound<'_, PyAny>) -> Result<Value> {
    let py = object.py();
    let dict = object.cast::<PyDict>().ok();
    if dict.is_none() && (object.is_none() || object.is_instance_of::<PyString>()) {
        return Err(expected(ty, object));
    }
    let mut used = 0;
    let mut values = Vec::with_capacity(plan.fields.len());
    for ((field, attribute), name) in plan.fields.iter().zip(&plan.attributes).zip(&plan.names) {
        let attribute = attribute.bind(py);
        let found = match dict {
            Some(dict) => match dict.get_item(attribute)? {
                Some(found) => Some(found),
                None => dict.get_item(&**name)?,
            },
            None => match object.getattr(attribute) {
                Ok(found) => Some(found),
                Err(error) if error.is_instance_of::<PyAttributeError>(py) => None,
                Err(error) => return Err(error.into()),
            },
        };
        let Some(found) = found else {
            return Err(match dict {
                None if used == 0 => expected(ty, object),
                _ => Bad::new(format!("the field `{name}` is missing")),
            });
        };
        used += 1;
        values.push(value(field, &found).map_err(|bad| bad.at(format_args!(".{name}")))?);
    }
    if let Some(dict) = dict
        && dict.len() > used
    {
        let strange = dict.keys().iter().find(|key| {
            let known = |name: &str| plan.names.iter().any(|wit| **wit == *name);
            let attribute = |name: &str| plan.attributes.iter().any(|attr| attr.bind(py) == name);
            !key.extract::<String>().is_ok_and(|key| known(&key) || attribute(&key))
        });
        let strange = strange.map_or_else(|| "the same field twice".to_owned(), |key| format!("`{key}`"));
        return Err(Bad::new(format!("expected {ty}, found {strange} in the dict")));
    }
    Ok(Value::Record(values))
}

fn tuple(ty: &Type, plans: &[Plan], object: &Bound<'_, PyAny>) -> Result<Value> {
    if !object.is_instance_of::<PyTuple>() && !object.is_instance_of::<PyList>() {
        return Err(expected(ty, object));
    }
    let length = object.len()?;
    if length != plans.len() {
        return Err(Bad::new(format!("expected {ty}, found {length} elements")));
    }
    let element = |(place, plan): (usize, &Plan)| {
        value(plan, &object.get_item(place)?).map_err(|bad| bad.at(format_args!("[{place}]")))
    };
    plans.iter().enumerate().map(element).collect::<Result<_>>().map(Value::Tuple)
}

/// Finds a case by its name. The object is a str, or a member of a Python enum with that value or name.
fn case_name(ty: &Type, names: &Names, object: &Bound<'_, PyAny>) -> Result<usize> {
    let py = object.py();
    if let Ok(name) = object.cast::<PyString>() {
        let name = name.to_string_lossy();
        return names.find(&name).ok_or_else(|| Bad::new(format!("expected {ty}, found {name:?}")));
    }
    if object.is_instance(class(py, "enum", "Enum")?.as_any())? {
        for side in [intern!(py, "value"), intern!(py, "name")] {
            let found = object.getattr(side)?;
            if let Ok(text) = found.cast::<PyString>()
                && let Some(place) = names.find(&text.to_string_lossy())
            {
                return Ok(place);
            }
        }
    }
    Err(expected(ty, object))
}

fn variant(ty: &Type, names: &Names, payloads: &[Option<Plan>], object: &Bound<'_, PyAny>) -> Result<Value> {
    let py = object.py();
    let (case, payload) = if is(object, "Variant")? {
        (object.getattr(intern!(py, "case"))?, Some(object.getattr(intern!(py, "value"))?))
    } else if let Ok(pair) = object.cast::<PyTuple>()
        && pair.len() == 2
    {
        (pair.get_item(0)?, Some(pair.get_item(1)?))
    } else {
        (object.clone(), None)
    };
    let place = case_name(ty, names, &case)?;
    let name = &names.wit[place];
    let value = match (&payloads[place], payload) {
        (None, None) => None,
        (None, Some(payload)) if payload.is_none() => None,
        (None, Some(_)) => return Err(Bad::new(format!("the case `{name}` of {ty} has no value"))),
        (Some(plan), Some(payload)) => {
            Some(Box::new(value(plan, &payload).map_err(|bad| bad.at(format_args!(".{name}")))?))
        }
        (Some(plan), None) => {
            let bad = Bad::new(format!("the case `{name}` needs a value of type {}", plan.ty));
            return Err(bad.with_help("pass `gvm.Variant(case, value)`"));
        }
    };
    Ok(Value::Variant(place as u32, value))
}

fn option(some: &Plan, object: &Bound<'_, PyAny>) -> Result<Value> {
    if object.is_none() {
        return Ok(Value::Option(None));
    }
    let py = object.py();
    // Each `Some` belongs to the outermost option that remains.
    let inner = match is(object, "Some")? {
        true => object.getattr(intern!(py, "value"))?,
        false => object.clone(),
    };
    value(some, &inner).map(|value| Value::Option(Some(Box::new(value))))
}

fn result(ty: &Type, ok: Option<&Plan>, err: Option<&Plan>, object: &Bound<'_, PyAny>) -> Result<Value> {
    let py = object.py();
    let (plan, side) = if is(object, "Ok")? {
        (ok, "ok")
    } else if is(object, "Err")? {
        (err, "err")
    } else {
        return Err(expected(ty, object).with_help("pass `gvm.Ok(value)` or `gvm.Err(value)`"));
    };
    let inner = object.getattr(intern!(py, "value"))?;
    let inner = match plan {
        Some(plan) => Some(Box::new(value(plan, &inner).map_err(|bad| bad.at(format_args!(".{side}")))?)),
        None if inner.is_none() => None,
        None => return Err(Bad::new(format!("`{side}` of {ty} has no value"))),
    };
    Ok(Value::Result(if side == "ok" { Ok(inner) } else { Err(inner) }))
}

fn flags(ty: &Type, names: &Names, object: &Bound<'_, PyAny>) -> Result<Value> {
    let ordered = object.is_instance_of::<PySet>()
        || object.is_instance_of::<PyFrozenSet>()
        || object.is_instance_of::<PyList>()
        || object.is_instance_of::<PyTuple>();
    if !ordered {
        return Err(expected(ty, object).with_help("pass a set, list or tuple of names"));
    }
    let mut words = vec![0u32; names.wit.len().div_ceil(32)];
    for name in object.try_iter()? {
        let place = case_name(ty, names, &name?)?;
        words[place / 32] |= 1 << (place % 32);
    }
    Ok(Value::Flags(words))
}

fn is(object: &Bound<'_, PyAny>, class: &'static str) -> PyResult<bool> {
    object.is_instance(ours(object.py(), class)?.as_any())
}

/// Returns a class of `gvm._values`.
pub fn ours<'py>(py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, PyType>> {
    static CLASSES: PyOnceLock<[(&str, Py<PyType>); 4]> = PyOnceLock::new();
    let classes = CLASSES.get_or_try_init(py, || {
        let get = |name| PyResult::Ok((name, class(py, "gvm._values", name)?.unbind()));
        PyResult::Ok([get("Variant")?, get("Some")?, get("Ok")?, get("Err")?])
    })?;
    match classes.iter().find(|(known, _)| *known == name) {
        Some((_, class)) => Ok(class.bind(py).clone()),
        None => class(py, "gvm._values", name),
    }
}

fn class<'py>(py: Python<'py>, module: &str, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?)
}
