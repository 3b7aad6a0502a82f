//! Converts errors into Python exceptions.
//!
//! In: [`Error`]. Out: an instance of the class for its code, from `gvm/_errors.py`. Must not know: what
//! failed.

use gvm_host::{Error, NodeName, Result};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// Returns the exception for an error.
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

/// Returns the exception for a request to a node that is closed.
pub fn closed(py: Python<'_>, node: &NodeName) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = || {
        let details = PyDict::new(py);
        details.set_item("help", "make a new `gvm.Node`")?;
        let message = format!("the node `{node}` is closed");
        CLASS.import(py, "gvm._errors", "Closed")?.call((message,), Some(&details))
    };
    match made() {
        Ok(error) => PyErr::from_value(error),
        Err(failed) => failed,
    }
}

/// Returns the exception that carries the `err` value of a WIT `result`.
pub fn wit_error(py: Python<'_>, value: Py<PyAny>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.import(py, "gvm._errors", "WitError").and_then(|class| class.call1((value,))) {
        Ok(error) => PyErr::from_value(error),
        Err(failed) => failed,
    }
}

/// Converts the errors of results into exceptions.
pub trait Raise<T> {
    /// Returns the value, or the exception for the error.
    ///
    /// # Errors
    /// The exception for the error's code.
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> Raise<T> for Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error))
    }
}
