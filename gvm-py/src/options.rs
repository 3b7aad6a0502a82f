//! What goes with a call besides its arguments: limits, and where its output goes.
//!
//! In: Python keyword arguments. Out: plain limits and sinks. Must not know: what is called.

use std::sync::Arc;
use std::time::Duration;

use gvm_host::error::{Code, Error};
use gvm_host::limits::Limits;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::errors::exception;

/// Limits and sinks. Cheap to clone.
#[derive(Clone, Default)]
pub struct Options {
    pub limits: Limits,
    pub sinks: Arc<Sinks>,
}

/// Where output goes; none is `sys.stdout` and `sys.stderr` of the moment.
#[derive(Default)]
pub struct Sinks {
    pub stdout: Option<Py<PyAny>>,
    pub stderr: Option<Py<PyAny>>,
}

impl Options {
    /// These options, changed by what was given.
    ///
    /// # Errors
    /// `TypeError` for a keyword that is none of ours; `BAD_ARGUMENTS` for a value that is no limit.
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
                "stdout" => stdout = sink(&value)?,
                "stderr" => stderr = sink(&value)?,
                _ => {
                    return Err(PyTypeError::new_err(format!(
                        "unexpected keyword argument {key:?}: a call takes timeout, max_memory, max_output, \
                         fuel, stdout and stderr"
                    )));
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

fn sink(value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    if value.is_none() {
        return Ok(None);
    }
    let write = value.getattr_opt(intern!(value.py(), "write"))?;
    let sink = write.unwrap_or_else(|| value.clone());
    if !sink.is_callable() {
        return Err(bad(value.py(), "stdout and stderr take a function of a str, or a text file".into()));
    }
    Ok(Some(sink.unbind()))
}

/// Seconds, a `timedelta`, or text such as `"500ms"`; None and 0 for no limit.
fn time(value: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    let py = value.py();
    let wrong = || bad(py, format!("timeout: {value} is no time: give seconds, a timedelta or \"500ms\""));
    if value.is_none() {
        return Ok(None);
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

/// A number, or text such as `"64MiB"`.
fn size(key: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    if value.is_none() {
        return Ok(None);
    }
    let text = value.extract::<String>();
    let size = match &text {
        Ok(text) => text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64()),
        Err(_) => value.extract::<u64>().ok(),
    };
    size.map(Some)
        .ok_or_else(|| bad(value.py(), format!("{key}: {value} is no size: give a number, or \"64MiB\"")))
}
