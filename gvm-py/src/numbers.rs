//! Converts lists of numbers to and from arrays, without a Python object per element.
//!
//! In: objects with the buffer protocol (bytes, bytearray, memoryview, array.array, NumPy arrays); packed
//! lists. Out: packed lists, by one copy if the element types are the same, else by one checked conversion;
//! `bytes`, NumPy arrays, or `array.array` if NumPy is not installed. Must not know: signatures.

use gvm_host::{List, Type};
use pyo3::buffer::{Element, ElementType, PyBuffer, PyUntypedBuffer};
use pyo3::exceptions::PyImportError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PyModule};

use crate::bytes::object_of;
use crate::from_python::Bad;

/// Converts a buffer into a list with this element type.
///
/// # Errors
/// [`Bad`] if the buffer does not have exactly one dimension, if its elements are of a kind that does not
/// fit, or if one is out of range.
pub fn from_buffer(py: Python<'_>, buffer: &PyUntypedBuffer, element: &Type) -> Result<List, Bad> {
    if buffer.dimensions() != 1 {
        let count = buffer.dimensions();
        return Err(Bad::new(format!("expected list<{element}>, found an array of {count} dimensions"))
            .with_help("make it one-dimensional first, for example with `ravel()`"));
    }
    match order(buffer) {
        Order::Native => {}
        Order::Explicit => return from_buffer(py, &without_order(py, buffer)?, element),
        Order::Foreign => {
            return Err(Bad::new(format!("expected list<{element}>, found an array of another byte order"))
                .with_help("convert the array first, for example with `astype()`"));
        }
    }
    let kind = ElementType::from_format(buffer.format());
    macro_rules! lists {
        ($($ty:ident $number:ty),*) => {
            match element {
                $(Type::$ty => numbers::<$number>(py, buffer, kind, element).map(|list| List::$ty(list.into())),)*
                _ => Err(Bad::new(format!("expected list<{element}>, found an array of numbers"))),
            }
        };
    }
    lists!(S8 i8, U8 u8, S16 i16, U16 u16, S32 i32, U32 u32, S64 i64, U64 u64, F32 f32, F64 f64)
}

/// The byte order of the elements of a buffer.
enum Order {
    Native,
    /// That of this machine, but written in the format (`<d`), as ctypes does.
    Explicit,
    Foreign,
}

/// Reads the byte order of a buffer. pyo3 alone would take big-endian elements for native ones.
fn order(buffer: &PyUntypedBuffer) -> Order {
    match buffer.format().to_bytes() {
        [b'<', _] if cfg!(target_endian = "little") => Order::Explicit,
        [b'>' | b'!', _] if cfg!(target_endian = "big") => Order::Explicit,
        [b'<' | b'>' | b'!', _] => Order::Foreign,
        _ => Order::Native,
    }
}

/// Returns a view of a buffer whose format does not name the byte order.
fn without_order(py: Python<'_>, buffer: &PyUntypedBuffer) -> Result<PyUntypedBuffer, Bad> {
    let code = buffer.format().to_bytes().get(1).map_or('B', |code| char::from(*code));
    let Some(object) = buffer.obj(py) else { return Err(Bad::new("found an array without an owner")) };
    let view = PyMemoryView::from(object)?.call_method1(intern!(py, "cast"), ("B",))?;
    Ok(PyUntypedBuffer::get(&view.call_method1(intern!(py, "cast"), (code,))?)?)
}

/// The type of the elements of a packed list.
trait Number: Element + Sized {
    const FLOAT: bool;
    /// Returns exactly this number, or None.
    fn from_integer(value: i128) -> Option<Self>;
    /// Returns the nearest number, or None if it is out of range.
    fn from_float(value: f64) -> Option<Self>;
}

macro_rules! integers {
    ($($ty:ty)*) => {$(
        impl Number for $ty {
            const FLOAT: bool = false;
            fn from_integer(value: i128) -> Option<$ty> {
                value.try_into().ok()
            }
            fn from_float(_: f64) -> Option<$ty> {
                None
            }
        }
    )*};
}

integers!(i8 u8 i16 u16 i32 u32 i64 u64);

impl Number for f32 {
    const FLOAT: bool = true;
    fn from_integer(value: i128) -> Option<f32> {
        let near = value as f32;
        (near as i128 == value).then_some(near)
    }
    fn from_float(value: f64) -> Option<f32> {
        narrow(value)
    }
}

impl Number for f64 {
    const FLOAT: bool = true;
    fn from_integer(value: i128) -> Option<f64> {
        let near = value as f64;
        (near as i128 == value).then_some(near)
    }
    fn from_float(value: f64) -> Option<f64> {
        Some(value)
    }
}

/// Returns whether an object is a masked array of NumPy, or a masked element.
///
/// # Errors
/// What its attributes raise.
pub fn is_masked(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    if object.is_instance_of::<PyList>() || object.is_instance_of::<PyBytes>() {
        return Ok(false);
    }
    let mask = object.getattr_opt(intern!(py, "mask"))?;
    Ok(mask.is_some() && object.hasattr(intern!(py, "filled"))? && object.hasattr(intern!(py, "dtype"))?)
}

/// Returns the error for a masked array, with the place of its first masked element.
///
/// # Errors
/// What its methods raise.
pub fn masked(ty: &Type, object: &Bound<'_, PyAny>) -> PyResult<Bad> {
    let py = object.py();
    let mask = py.import("numpy.ma")?.call_method1("getmaskarray", (object,))?;
    let first = match mask.call_method0("any")?.is_truthy()? {
        true => Some(mask.call_method0("argmax")?.extract::<usize>()?),
        false => None,
    };
    let bad = match first {
        Some(place) => Bad::new(format!("expected {ty}, found a masked element")).at(format!("[{place}]")),
        None => Bad::new(format!("expected {ty}, found a masked array")),
    };
    Ok(bad.with_help("pass `filled(value)`, or `compressed()` to leave out the masked elements"))
}

/// Returns the nearest f32, or None if a finite number would become infinite.
pub fn narrow(value: f64) -> Option<f32> {
    let near = value as f32;
    (near.is_finite() || !value.is_finite()).then_some(near)
}

fn numbers<T: Number>(
    py: Python<'_>,
    buffer: &PyUntypedBuffer,
    kind: ElementType,
    element: &Type,
) -> Result<Vec<T>, Bad> {
    // The element types are the same: one copy.
    if let Ok(same) = buffer.as_typed::<T>() {
        return Ok(same.to_vec(py)?);
    }
    macro_rules! convert {
        ($source:ty, $wide:ty, $from:ident) => {{
            let source = buffer.as_typed::<$source>()?.to_vec(py)?;
            let mut numbers = Vec::with_capacity(source.len());
            for (place, number) in source.into_iter().enumerate() {
                numbers.push(T::$from(<$wide>::from(number)).ok_or_else(|| {
                    let whole = std::any::TypeId::of::<$wide>() == std::any::TypeId::of::<i128>();
                    let bad = match whole && T::FLOAT {
                        true => Bad::new(format!("{number} cannot be represented exactly as {element}"))
                            .with_help("to round it, convert the array to floats first with `astype(float)`"),
                        false => Bad::new(format!("{number} is out of range for {element}")),
                    };
                    bad.at(format!("[{place}]"))
                })?);
            }
            Ok(numbers)
        }};
    }
    match kind {
        ElementType::SignedInteger { bytes: 1 } => convert!(i8, i128, from_integer),
        ElementType::SignedInteger { bytes: 2 } => convert!(i16, i128, from_integer),
        ElementType::SignedInteger { bytes: 4 } => convert!(i32, i128, from_integer),
        ElementType::SignedInteger { bytes: 8 } => convert!(i64, i128, from_integer),
        ElementType::UnsignedInteger { bytes: 1 } => convert!(u8, i128, from_integer),
        ElementType::UnsignedInteger { bytes: 2 } => convert!(u16, i128, from_integer),
        ElementType::UnsignedInteger { bytes: 4 } => convert!(u32, i128, from_integer),
        ElementType::UnsignedInteger { bytes: 8 } => convert!(u64, i128, from_integer),
        ElementType::Float { bytes: 4 } if T::FLOAT => convert!(f32, f64, from_float),
        ElementType::Float { bytes: 8 } if T::FLOAT => convert!(f64, f64, from_float),
        _ => Err(Bad::new(format!(
            "expected list<{element}>, found an array whose elements are {} (format {:?})",
            match (kind, buffer.format().to_bytes()) {
                (ElementType::Float { .. }, _) => "floats",
                (ElementType::Bool, _) => "bools",
                (_, [b'Z', ..]) => "complex numbers",
                (_, [b'O']) => "Python objects",
                _ => "of another kind",
            },
            buffer.format().to_string_lossy(),
        ))
        .with_help("convert the array first, for example with `astype()`")),
    }
}

/// Converts a packed list into `bytes` or an array.
///
/// # Errors
/// `MemoryError`.
pub fn to_array<'py>(py: Python<'py>, list: &List) -> PyResult<Bound<'py, PyAny>> {
    match list {
        List::U8(numbers) => Ok(object_of(py, numbers).into_any()),
        List::S8(numbers) => array(py, numbers, "int8", "b"),
        List::S16(numbers) => array(py, numbers, "int16", "h"),
        List::U16(numbers) => array(py, numbers, "uint16", "H"),
        List::S32(numbers) => array(py, numbers, "int32", "i"),
        List::U32(numbers) => array(py, numbers, "uint32", "I"),
        List::S64(numbers) => array(py, numbers, "int64", "q"),
        List::U64(numbers) => array(py, numbers, "uint64", "Q"),
        List::F32(numbers) => array(py, numbers, "float32", "f"),
        List::F64(numbers) => array(py, numbers, "float64", "d"),
        List::Values(_) => Err(pyo3::exceptions::PySystemError::new_err("not a list of numbers")),
    }
}

fn array<'py, T: Element>(
    py: Python<'py>,
    numbers: &[T],
    dtype: &str,
    code: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let made = match numpy(py)? {
        Some(numpy) => numpy.call_method1(intern!(py, "empty"), (numbers.len(), dtype))?,
        None => {
            let one = PyBytes::new_with(py, size_of::<T>(), |_| Ok(()))?;
            let one = py.import(intern!(py, "array"))?.call_method1(intern!(py, "array"), (code, one))?;
            one.mul(numbers.len())?
        }
    };
    if !numbers.is_empty() {
        PyBuffer::<T>::get(&made)?.copy_from_slice(py, numbers)?;
    }
    Ok(made)
}

/// Returns NumPy, if it is installed.
fn numpy(py: Python<'_>) -> PyResult<Option<&Bound<'_, PyModule>>> {
    static NUMPY: PyOnceLock<Option<Py<PyModule>>> = PyOnceLock::new();
    let found = NUMPY.get_or_try_init(py, || match py.import("numpy") {
        Ok(numpy) => Ok(Some(numpy.unbind())),
        Err(error) if error.is_instance_of::<PyImportError>(py) => Ok(None),
        Err(error) => Err(error),
    })?;
    Ok(found.as_ref().map(|numpy| numpy.bind(py)))
}
