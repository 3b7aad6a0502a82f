//! Converts Python objects into single numbers.
//!
//! In: an object and a number type. Out: the number, or why the object does not fit. An integer is converted
//! exactly or refused, to floats too. A float becomes the nearest `f32`. Must not know: lists, signatures.

use gvm_host::Type;
use pyo3::exceptions::{PyException, PyOverflowError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt, PyString};

use crate::from_python::{Bad, expected};
use crate::numbers;

type Result<T> = std::result::Result<T, Bad>;

/// Every integer up to this is exactly an `f64`.
const EXACT: u64 = 1 << 53;

/// Converts an object with `__index__` into a whole number in the range of its type.
///
/// # Errors
/// [`Bad`].
pub fn integer<'py, T>(ty: &Type, object: &Bound<'py, PyAny>) -> Result<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    if !object.is_instance_of::<PyInt>() {
        check_numpy(ty, object, "iu")?;
    }
    object.extract::<T>().map_err(|error| refused(ty, object, error))
}

/// Converts an object into an `f64`. It is a float, or a number that an `f64` represents exactly.
///
/// # Errors
/// [`Bad`].
pub fn float64(ty: &Type, object: &Bound<'_, PyAny>) -> Result<f64> {
    match object.cast::<PyFloat>() {
        Ok(float) => Ok(float.value()),
        Err(_) => exact(ty, object),
    }
}

/// Converts an object into an `f32`. It is a float, which is rounded, or a number that an `f32` represents
/// exactly.
///
/// # Errors
/// [`Bad`].
pub fn float32(ty: &Type, object: &Bound<'_, PyAny>) -> Result<f32> {
    let (wide, is_float) = match object.cast::<PyFloat>() {
        Ok(float) => (float.value(), true),
        Err(_) => (exact(ty, object)?, false),
    };
    let near = numbers::narrow(wide).ok_or_else(|| Bad::new(format!("{wide} is out of range for {ty}")))?;
    if is_float || f64::from(near) == wide || wide.is_nan() { Ok(near) } else { Err(inexact(ty, object)) }
}

/// Converts a number that is not a Python float exactly into an `f64`.
fn exact(ty: &Type, object: &Bound<'_, PyAny>) -> Result<f64> {
    if let Ok(whole) = object.cast::<PyInt>() {
        return exact_integer(ty, whole);
    }
    check_numpy(ty, object, "fiu")?;
    match object.call_method0(intern!(object.py(), "__index__")) {
        Ok(whole) => return exact_integer(ty, &whole.cast_into::<PyInt>().map_err(PyErr::from)?),
        Err(error) if error.is_instance_of::<PyException>(object.py()) => {}
        Err(error) => return Err(error.into()),
    }
    let near = object.extract::<f64>().map_err(|error| refused(ty, object, error))?;
    if near.is_nan() || object.eq(near)? { Ok(near) } else { Err(inexact(ty, object)) }
}

fn exact_integer(ty: &Type, whole: &Bound<'_, PyInt>) -> Result<f64> {
    if let Ok(small) = whole.extract::<i64>()
        && small.unsigned_abs() <= EXACT
    {
        return Ok(small as f64);
    }
    let near = whole.extract::<f64>().map_err(|error| refused(ty, whole, error))?;
    // Python compares an int and a float by their exact values.
    if whole.as_any().eq(near)? { Ok(near) } else { Err(inexact(ty, whole)) }
}

fn inexact(ty: &Type, object: &Bound<'_, PyAny>) -> Bad {
    let bad = Bad::new(format!("{} cannot be represented exactly as {ty}", shown(object)));
    bad.with_help("to round it, pass `float(…)` of it")
}

/// Converts the exception of a failed conversion. An exception that is not an `Exception`, such as
/// `KeyboardInterrupt`, stays as it is.
fn refused(ty: &Type, object: &Bound<'_, PyAny>, error: PyErr) -> Bad {
    let py = object.py();
    if error.is_instance_of::<PyOverflowError>(py) {
        return Bad::new(format!("{} is out of range for {ty}", shown(object)));
    }
    if error.is_instance_of::<PyException>(py) { expected(ty, object) } else { error.into() }
}

/// Refuses NumPy objects that are not a single number of these kinds: masked elements, arrays, bools, complex
/// numbers, times.
fn check_numpy(ty: &Type, object: &Bound<'_, PyAny>, kinds: &str) -> Result<()> {
    let py = object.py();
    let Some(dtype) = object.getattr_opt(intern!(py, "dtype"))? else { return Ok(()) };
    if numbers::is_masked(object)? {
        return Err(Bad::new(format!("expected {ty}, found a masked element")));
    }
    let kind = dtype.getattr_opt(intern!(py, "kind"))?;
    let kind = kind.as_ref().and_then(|kind| kind.cast::<PyString>().ok());
    let right = kind.is_none_or(|kind| kinds.contains(&*kind.to_string_lossy()));
    let dimensions = object.getattr_opt(intern!(py, "ndim"))?;
    let single = dimensions.is_none_or(|count| count.extract::<usize>().is_ok_and(|count| count == 0));
    if right && single { Ok(()) } else { Err(expected(ty, object)) }
}

fn shown(number: &Bound<'_, PyAny>) -> String {
    let number = number.str().map_or_else(|_| "the number".to_owned(), |text| text.to_string());
    match number.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &number[..end]),
        None => number,
    }
}
