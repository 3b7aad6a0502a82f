//! A gpmd in this process, and uploads to the gpmd of a home.
//!
//! In: the folder of a home, the bytes of a module. Out: a gpmd that ends with its object, the result of an
//! upload. Must not know: nodes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use gvm_host::daemon::ahead::compile_ahead;
use gvm_host::daemon::server;
use gvm_host::daemon::server::{Server, Start};
use gvm_host::gpmd::control::{Control, Uploaded};
use gvm_host::text::inert;
use gvm_host::{Code, Compiler, Engine, EngineConfig, Error, Home, Result, inspect, parse_version, workers};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::Raise;
use crate::fork::{self, Owned};
use crate::op::Op;

/// Returns the command that starts the compiler process: this Python with the module `gvm._compile`.
pub fn compiler(python: PathBuf) -> Compiler {
    // `-P` keeps Python from searching the current folder before the installed package.
    let args = ["-P", "-m", "gvm._compile"].map(OsString::from);
    Compiler::program(python).args(args)
}

/// Makes an engine that uses the compiled code of a home.
pub fn engine(home: &Home, python: PathBuf) -> Engine {
    Engine::new(EngineConfig::new(home.compiled(), compiler(python)))
}

/// The gpmd of a home, in this process.
#[pyclass(frozen, module = "gvm._gvm")]
pub struct Gpmd(Mutex<Owned<Server>>);

#[pymethods]
impl Gpmd {
    /// Starts a gpmd on free ports.
    #[staticmethod]
    fn start(py: Python<'_>, home: PathBuf, python: PathBuf) -> PyResult<Op> {
        fork::start().or_raise(py)?;
        let start = move || {
            let home = Home::open(home)?;
            let mut config = server::Config::new(home.clone());
            let engine = engine(&home, python);
            config.on_stored = Some(Box::new(compile_ahead(engine, home, workers()?.handle().clone())));
            match Server::start(config)? {
                Start::Started(server) => Ok(server),
                Start::Running(_) => {
                    Err(Error::new(Code::PortInUse, "another gpmd is already running in this home"))
                }
            }
        };
        Ok(Op::blocking(
            start,
            |py, server| Ok(Py::new(py, Gpmd(Mutex::new(Owned::new(server))))?.into_any()),
        ))
    }

    /// The TCP address for nodes.
    #[getter]
    fn address(&self) -> Option<String> {
        let server = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        server.get().map(|server| server.record().address.clone())
    }

    /// Stops it in order.
    fn stop(&self) -> Op {
        let server = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Op::blocking(move || server.map_or(Ok(()), |server| server.stop("shut down")), |py, ()| Ok(py.None()))
    }
}

/// Uploads a module, binary or text, to the gpmd of a home, and returns its signatures. When the request
/// ends, the module is stored durably and every node of the home knows it.
#[pyfunction]
pub fn upload(home: PathBuf, name: String, version: String, data: &Bound<'_, PyBytes>) -> Op {
    let bytes = data.as_bytes().to_vec();
    let upload = move || -> Result<Uploaded> {
        let home = Home::open(home)?;
        let binary = inspect::to_binary(&bytes)?;
        Control::connect(&home)?.upload(&name.parse()?, &parse_version(&version)?, &binary, &mut |_| {})
    };
    let shown = |signature: &String| inert::line(signature).into_owned();
    Op::blocking(upload, move |py, uploaded| {
        let signatures: Vec<String> = uploaded.entry.exports.iter().map(shown).collect();
        Ok(signatures.into_pyobject(py)?.into_any().unbind())
    })
}
