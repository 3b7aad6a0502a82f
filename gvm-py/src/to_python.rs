//! Converts WIT values into Python objects, in one pass.
//!
//! In: a value and the plan of its type. Out: the usual Python object for it. Must not know: calls.

use gvm_host::{Error, List, Value};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PyString, PyTuple};

use crate::errors;
use crate::from_python::ours;
use crate::numbers;
use crate::plan::{Plan, Shape};

/// Converts the result of a function. Unwraps the `ok` of a WIT `result`, and raises the `err`.
///
/// # Errors
/// `gvm.WitError`; see also [`object`].
pub fn returned<'py>(py: Python<'py>, plan: &Plan, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    let (Shape::Result { ok, err }, Value::Result(result)) = (&plan.shape, value) else {
        return object(py, plan, value);
    };
    let (plan, payload) = match result {
        Ok(payload) => (ok, payload),
        Err(payload) => (err, payload),
    };
    let payload = inside(py, plan.as_deref(), payload.as_deref())?;
    if result.is_ok() { Ok(payload) } else { Err(errors::wit_error(py, payload.unbind())) }
}

/// Converts a value into an object.
///
/// # Errors
/// `INTERNAL` if the value is not of the plan's type; `MemoryError`.
pub fn object<'py>(py: Python<'py>, plan: &Plan, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match (&plan.shape, value) {
        (Shape::Plain, Value::Bool(value)) => PyBool::new(py, *value).to_owned().into_any(),
        (Shape::Plain, Value::S8(value)) => PyInt::new(py, *value).into_any(),
        (Shape::Plain, Value::U8(value)) => PyInt::new(py, *value).into_any(),
        (Shape::Plain, Value::S16(value)) => PyInt::new(py, *value).into_any(),
        (Shape::Plain, Value::U16(value)) => PyInt::new(py, *value).into_any(),
        (Shape::Plain, Value::S32(value)) => PyInt::new(py, *value).into_any(),
        (Shape::Plain, Value::U32(value)) => PyInt::new(py, *value).into_any(),
        (Shape::Plain, Value::S64(value)) => PyInt::new(py, *value).into_any(),
        (Shape::Plain, Value::U64(value)) => PyInt::new(py, *value).into_any(),
        (Shape::Plain, Value::F32(value)) => PyFloat::new(py, f64::from(*value)).into_any(),
        (Shape::Plain, Value::F64(value)) => PyFloat::new(py, *value).into_any(),
        (Shape::Plain, Value::Char(value)) => PyString::new(py, value.encode_utf8(&mut [0; 4])).into_any(),
        (Shape::Plain, Value::String(value)) => PyString::new(py, value).into_any(),
        (Shape::List(element), Value::List(List::Values(values))) => {
            let list = PyList::empty(py);
            for value in values {
                list.append(object(py, element, value)?)?;
            }
            list.into_any()
        }
        (Shape::Map { key: key_plan, value: value_plan }, Value::List(List::Values(entries))) => {
            // If a guest gives a key twice, the last value stays.
            let dict = PyDict::new(py);
            for entry in entries {
                let Value::Tuple(pair) = entry else { return Err(misfit(py, plan, entry)) };
                let [key, value] = pair.as_slice() else { return Err(misfit(py, plan, entry)) };
                dict.set_item(object(py, key_plan, key)?, object(py, value_plan, value)?)?;
            }
            dict.into_any()
        }
        (Shape::List(element), Value::List(packed)) if element.ty.is_number() => {
            numbers::to_array(py, packed)?
        }
        (Shape::Record(record), Value::Record(values)) if values.len() == record.fields.len() => {
            record.class.bind(py).call1(objects(py, record.fields.iter().zip(values))?)?
        }
        (Shape::Tuple(plans), Value::Tuple(values)) if values.len() == plans.len() => {
            objects(py, plans.iter().zip(values))?.into_any()
        }
        (Shape::Variant(names, payloads), Value::Variant(case, payload)) => {
            let place = *case as usize;
            let (Some(name), Some(plan)) = (names.python.get(place), payloads.get(place)) else {
                return Err(misfit(py, plan, value));
            };
            let payload = inside(py, plan.as_ref(), payload.as_deref())?;
            ours(py, "Variant")?.call1((name, payload))?
        }
        (Shape::Enum(names), Value::Enum(case)) => match names.python.get(*case as usize) {
            Some(name) => name.bind(py).clone().into_any(),
            None => return Err(misfit(py, plan, value)),
        },
        (Shape::Option { .. }, Value::Option(None)) => py.None().into_bound(py),
        (Shape::Option { some, wraps }, Value::Option(Some(value))) => {
            let inner = object(py, some, value)?;
            if *wraps { ours(py, "Some")?.call1((inner,))? } else { inner }
        }
        (Shape::Result { ok, err }, Value::Result(result)) => {
            let (name, plan, payload) = match result {
                Ok(payload) => ("Ok", ok, payload),
                Err(payload) => ("Err", err, payload),
            };
            ours(py, name)?.call1((inside(py, plan.as_deref(), payload.as_deref())?,))?
        }
        (Shape::Flags(names), Value::Flags(words)) => {
            let set = |place: &usize| words.get(place / 32).is_some_and(|word| word >> (place % 32) & 1 == 1);
            let names = (0..names.wit.len()).filter(set).map(|place| names.python[place].bind(py));
            PyFrozenSet::new(py, names)?.into_any()
        }
        _ => return Err(misfit(py, plan, value)),
    })
}

fn objects<'py, 'a>(
    py: Python<'py>,
    values: impl Iterator<Item = (&'a Plan, &'a Value)>,
) -> PyResult<Bound<'py, PyTuple>> {
    let objects = values.map(|(plan, value)| object(py, plan, value)).collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(py, objects)
}

/// Converts a payload. Returns None if there is none.
fn inside<'py>(py: Python<'py>, plan: Option<&Plan>, value: Option<&Value>) -> PyResult<Bound<'py, PyAny>> {
    match (plan, value) {
        (Some(plan), Some(value)) => object(py, plan, value),
        _ => Ok(py.None().into_bound(py)),
    }
}

fn misfit(py: Python<'_>, plan: &Plan, value: &Value) -> PyErr {
    let error = Error::internal(format!("expected {}, but the node returned a {}", plan.ty, value.kind()));
    errors::exception(py, &error)
}
