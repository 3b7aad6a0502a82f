//! A coded error as a Python exception.
//!
//! In: [`Error`]. Out: an instance of the class of its code, which `gvm/_errors.py` defines. Must not
//! know: what failed.

use gvm_host::Name;
use gvm_host::{Error, Result};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// The exception of this error.
pub fn exception(py: Python<'_>, error: &Error) -> PyErr {
    made(py, error).unwrap_or_else(|failed| failed)
}

fn made(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let classes = CLASSES.get_or_try_init(py, || {
        let found = py.import("gvm._errors")?.getattr("CLASSES")?;
        PyResult::Ok(found.cast_into::<PyDict>()?.unbind())
    })?;
    let class = classes.bind(py).as_any().get_item(error.code().as_str())?.cast_into::<PyType>()?;
    let details = PyDict::new(py);
    details.set_item("outcome", error.effect().as_str())?;
    details.set_item("context", error.context())?;
    details.set_item("help", error.help())?;
    details.set_item("status", error.exit())?;
    Ok(PyErr::from_value(class.call((error.message(),), Some(&details))?))
}

/// The exception for what is asked of a node that was closed.
pub fn closed(py: Python<'_>, node: &Name) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let message = format!("the node `{node}` has been closed");
    match CLASS.import(py, "gvm._errors", "Closed").and_then(|class| class.call1((message,))) {
        Ok(error) => PyErr::from_value(error),
        Err(failed) => failed,
    }
}

/// The exception that carries the value of a WIT `result`'s error.
pub fn wit_error(py: Python<'_>, value: Py<PyAny>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.import(py, "gvm._errors", "WitError").and_then(|class| class.call1((value,))) {
        Ok(error) => PyErr::from_value(error),
        Err(failed) => failed,
    }
}

/// Turns coded errors into exceptions.
pub trait Raise<T> {
    /// The value, or the exception.
    ///
    /// # Errors
    /// The exception of the error's code.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> Raise<T> for Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}
