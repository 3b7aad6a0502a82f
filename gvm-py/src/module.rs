//! A module, or a live instance of one; the Rust part of `gvm/_module.py`.
//!
//! In: a module of the home. Out: its names, signatures and functions. Must not know: how functions are
//! called.

use std::sync::atomic::{AtomicBool, Ordering};

use gvm_host::{ModuleRef, Name, NodeName, Target, workers};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::errors::Raise;
use crate::fork;
use crate::function::Function;
use crate::lookup::{Core, Found, Place};
use crate::options::Options;

/// A module, or a live instance of one, with its signatures.
#[pyclass(frozen, module = "gvm._gvm", name = "Module")]
pub struct ModuleCore {
    pub core: Core,
    pub place: Place,
    pub module: ModuleRef,
    /// The name that the caller used.
    pub noun: String,
    pub found: Found,
    pub options: Options,
    /// The guard of a live instance that was just made.
    pub fresh: Option<Fresh>,
}

/// A live instance that has no owner yet, because its caller may have left. Dropping this drops the instance, unless
/// it was kept.
pub struct Fresh {
    core: Core,
    pub name: Name,
    kept: AtomicBool,
}

impl Fresh {
    pub fn new(core: Core, name: Name) -> Fresh {
        Fresh { core, name, kept: AtomicBool::new(false) }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if *self.kept.get_mut() || fork::forked() {
            return;
        }
        if let Ok(workers) = workers() {
            let (core, name) = (self.core.clone(), self.name.clone());
            workers.spawn(async move { core.handle().drop_instance(name).await });
        }
    }
}

impl ModuleCore {
    /// Returns the current module. A new version may have been uploaded.
    fn now(&self) -> Found {
        match self.module {
            ModuleRef::Instance(_) => self.found.clone(),
            _ => self.core.find_now(&self.module).unwrap_or_else(|| self.found.clone()),
        }
    }
}

#[pymethods]
impl ModuleCore {
    /// The module's name, with the version if one was given.
    #[getter]
    fn noun(&self) -> &str {
        &self.noun
    }

    /// The node that runs it. None means this node.
    #[getter]
    fn place(&self) -> Option<&str> {
        self.place.node.as_ref().map(NodeName::as_str)
    }

    /// The name of the live instance. None for a module.
    #[getter]
    fn instance(&self) -> Option<&str> {
        match &self.module {
            ModuleRef::Instance(name) => Some(name.as_str()),
            _ => None,
        }
    }

    /// Marks the live instance as kept: its Python object drops it from now on.
    fn keep(&self) {
        if let Some(fresh) = &self.fresh {
            fresh.kept.store(true, Ordering::Relaxed);
        }
    }

    /// The SHA-256 hash of its bytes.
    #[getter]
    fn sha256(&self) -> String {
        self.now().hash.to_string()
    }

    /// Its world as WIT. None for a core module.
    #[getter]
    fn wit(&self) -> Option<String> {
        self.now().info.wit.clone()
    }

    /// `core` or `component`.
    #[getter]
    fn kind(&self) -> &'static str {
        match self.now().info.kind {
            gvm_host::inspect::Kind::Core => "core",
            gvm_host::inspect::Kind::Component => "component",
        }
    }

    /// Whether it has a main.
    #[getter]
    fn has_main(&self) -> bool {
        self.now().info.main
    }

    /// Returns its functions: the interface (None at the root), the name, and the signature in WIT.
    fn functions(&self) -> Vec<(Option<String>, String, String)> {
        let found = self.now();
        let shown = found.info.exports.iter();
        shown.map(|export| (export.interface.clone(), export.name.clone(), export.ty.to_string())).collect()
    }

    /// Returns one of its functions, which keeps `owner` alive.
    #[pyo3(signature = (interface, name, owner=None))]
    fn function(
        &self,
        py: Python<'_>,
        interface: Option<&str>,
        name: &str,
        owner: Option<Py<PyAny>>,
    ) -> PyResult<Function> {
        let found = self.now();
        let export = found.info.find(&self.noun, interface, name).or_raise(py)?;
        let target = Target {
            module: self.module.clone(),
            interface: export.interface.clone(),
            function: Some(export.name.clone()),
        };
        let hash = match self.module {
            ModuleRef::Instance(_) => None,
            _ => Some(found.hash),
        };
        let (core, place) = (self.core.clone(), self.place.clone());
        let made = Function::new(py, core, place, target, self.options.clone(), (hash, &export.ty))?;
        Ok(made.owned_by(owner))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.options.traverse(&visit)
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a module cannot be pickled or copied: it belongs to a node of this process",
        ))
    }
}
