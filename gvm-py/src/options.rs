//! The options of a call: limits, and the destinations of its output.
//!
//! In: Python keyword arguments. Out: limits and sinks. Must not know: what is called.

use std::sync::Arc;
use std::time::Duration;

use gvm_host::{Code, Error, Limits};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyString};

use crate::errors::exception;

/// Limits and sinks. Cheap to clone.
#[derive(Clone, Default)]
pub struct Options {
    pub limits: Limits,
    pub sinks: Arc<Sinks>,
}

/// The functions that receive output. None means the current `sys.stdout` or `sys.stderr`.
#[derive(Default)]
pub struct Sinks {
    pub stdout: Option<Py<PyAny>>,
    pub stderr: Option<Py<PyAny>>,
}

impl Options {
    /// Returns a copy for another object, so that Python's garbage collector sees each reference once.
    pub fn own(&self, py: Python<'_>) -> Options {
        let copy = |sink: &Option<Py<PyAny>>| sink.as_ref().map(|sink| sink.clone_ref(py));
        let sinks = Sinks { stdout: copy(&self.sinks.stdout), stderr: copy(&self.sinks.stderr) };
        Options { limits: self.limits, sinks: Arc::new(sinks) }
    }

    /// Shows the sinks to the garbage collector, unless a running call shares them and keeps them alive.
    ///
    /// # Errors
    /// What the collector returns.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if Arc::strong_count(&self.sinks) > 1 {
            return Ok(());
        }
        visit.call(&self.sinks.stdout)?;
        visit.call(&self.sinks.stderr)
    }

    /// Returns these options with changes from keyword arguments.
    ///
    /// # Errors
    /// `BAD_ARGUMENTS` with the name of the keyword, if the keyword is unknown or its value does not fit.
    pub fn with(&self, given: Option<&Bound<'_, PyDict>>) -> PyResult<Options> {
        let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(self.clone()) };
        let py = given.py();
        let mut limits = self.limits;
        let (mut stdout, mut stderr) = (None, None);
        for (key, value) in given.iter() {
            let key = key.cast::<PyString>()?.to_str()?;
            match key {
                "timeout" => limits.timeout = time(&value)?,
                "max_memory" => limits.memory = size(key, &value)?,
                "max_output" => limits.output = size(key, &value)?,
                "fuel" => limits.fuel = size(key, &value)?,
                "stdout" => stdout = sink(key, &value)?,
                "stderr" => stderr = sink(key, &value)?,
                _ => {
                    let message = format!("unexpected keyword argument {key:?}");
                    let help = "a call takes timeout, max_memory, max_output, fuel, stdout and stderr";
                    return Err(exception(py, &Error::new(Code::BadArguments, message).with_help(help)));
                }
            }
        }
        if stdout.is_none() && stderr.is_none() {
            return Ok(Options { limits, sinks: self.sinks.clone() });
        }
        let kept = |new: Option<Py<PyAny>>, old: &Option<Py<PyAny>>| {
            new.or_else(|| old.as_ref().map(|old| old.clone_ref(py)))
        };
        let sinks =
            Sinks { stdout: kept(stdout, &self.sinks.stdout), stderr: kept(stderr, &self.sinks.stderr) };
        Ok(Options { limits, sinks: Arc::new(sinks) })
    }
}

fn bad(py: Python<'_>, message: String) -> PyErr {
    exception(py, &Error::new(Code::BadArguments, message))
}

fn found(value: &Bound<'_, PyAny>) -> String {
    let shown = value.repr().map_or_else(|_| "an object".to_owned(), |text| text.to_string());
    match shown.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
}

fn sink(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    if value.is_none() {
        return Ok(None);
    }
    let write = value.getattr_opt(intern!(value.py(), "write"))?;
    let sink = write.unwrap_or_else(|| value.clone());
    if !sink.is_callable() {
        let message = format!("{key}: expected a function of a str, or a text file, found {}", found(value));
        return Err(bad(value.py(), message));
    }
    Ok(Some(sink.unbind()))
}

/// Reads seconds, a `timedelta`, or text such as `"500ms"`. None and 0 mean no limit.
fn time(value: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    let py = value.py();
    let wrong = || {
        let found = found(value);
        bad(py, format!("timeout: expected seconds (0 or more), a timedelta or \"500ms\", found {found}"))
    };
    if value.is_none() {
        return Ok(None);
    }
    if value.is_instance_of::<PyBool>() {
        return Err(wrong());
    }
    let time = if let Ok(text) = value.extract::<String>() {
        if text == "0" { Duration::ZERO } else { humantime::parse_duration(&text).map_err(|_| wrong())? }
    } else {
        let seconds = match value.getattr_opt(intern!(py, "total_seconds"))? {
            Some(total) => total.call0()?.extract::<f64>(),
            None => value.extract::<f64>(),
        };
        Duration::try_from_secs_f64(seconds.map_err(|_| wrong())?).map_err(|_| wrong())?
    };
    Ok(Some(time).filter(|time| !time.is_zero()))
}

/// Reads a number, or text such as `"64MiB"`.
fn size(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    if value.is_none() {
        return Ok(None);
    }
    let text = value.extract::<String>();
    let size = match &text {
        _ if value.is_instance_of::<PyBool>() => None,
        Ok(text) => text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64()),
        Err(_) => value.extract::<u64>().ok(),
    };
    size.map(Some).ok_or_else(|| {
        let found = found(value);
        bad(value.py(), format!("{key}: expected a whole number (0 or more) or \"64MiB\", found {found}"))
    })
}
