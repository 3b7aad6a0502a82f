//! Python `bytes` objects as the memory of values.
//!
//! In: `bytes` objects, which never change. Out: values that share their memory, so that large bytes are copied once:
//! into the guest, or out of it. Must not know: calls.

use std::ptr::NonNull;

use gvm_host::{Bytes, Landing, Owner};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// Smaller bytes are copied, which takes less time than to count a reference.
const SHARED_FROM: usize = 16 << 10;

/// The memory of an argument.
struct Held(PyBackedBytes);

impl Owner for Held {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the bytes of an object. An object of a subclass is copied, because its end may run code.
pub fn bytes_of(object: &Bound<'_, PyBytes>) -> Bytes {
    let bytes = object.as_bytes();
    if bytes.len() < SHARED_FROM || !object.is_exact_instance_of::<PyBytes>() {
        return bytes.to_vec().into();
    }
    Bytes::shared(Held(object.clone().into()))
}

/// Returns bytes as an object, without a copy if they were lifted into an object.
pub fn object_of<'py>(py: Python<'py>, bytes: &Bytes) -> Bound<'py, PyBytes> {
    match bytes.owner::<Landed>() {
        Some(landed) => landed.object.bind(py).clone(),
        None => PyBytes::new(py, bytes),
    }
}

/// Returns memory for a result of this size, if the result is large enough.
pub fn landing(py: Python<'_>, size: usize) -> Option<Box<dyn Landing + Send>> {
    if size < SHARED_FROM {
        return None;
    }
    Some(Box::new(Blank::new(py, size)?))
}

/// A new object whose bytes are not written yet. No other code has seen it.
struct Blank(Option<Landed>);

/// An object into which a result was lifted.
struct Landed {
    object: Py<PyBytes>,
    memory: NonNull<u8>,
    len: usize,
}

// SAFETY: `memory` is that of `object`, which lives as long as this value. It is written once, by `Blank`, which owns it
// alone, and only read after that.
unsafe impl Send for Landed {}
// SAFETY: as above: it is only read.
unsafe impl Sync for Landed {}

impl Owner for Landed {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the memory has `len` bytes, which were all written before this value left `Blank`.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }
}

impl Blank {
    fn new(py: Python<'_>, len: usize) -> Option<Blank> {
        let size = ffi::Py_ssize_t::try_from(len).ok()?;
        // SAFETY: a null pointer asks for an object whose bytes are not written. It returns a new reference, or null.
        let made = unsafe {
            Bound::from_owned_ptr_or_opt(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), size))
        };
        let Some(made) = made else {
            // Out of memory. The result may be smaller.
            let _ = PyErr::take(py);
            return None;
        };
        let object = made.cast_into::<PyBytes>().ok()?;
        // SAFETY: the object is a `bytes`.
        let memory = NonNull::new(unsafe { ffi::PyBytes_AsString(object.as_ptr()) }.cast::<u8>())?;
        Some(Blank(Some(Landed { object: object.unbind(), memory, len })))
    }
}

impl Landing for Blank {
    fn land(&mut self, bytes: &[u8]) -> Option<Bytes> {
        let landed = self.0.take_if(|landed| landed.len == bytes.len())?;
        // SAFETY: the memory has `len` bytes, and no other code refers to the object.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), landed.memory.as_ptr(), landed.len) };
        Some(Bytes::shared(landed))
    }
}
