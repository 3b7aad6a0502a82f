//! The part of the Python package that is written in Rust. The Python code in `python/gvm` builds the public
//! classes on it.
//!
//! In: requests of the Python classes. Out: calls of the node's handle, on the calling thread, in an event
//! loop or in a pool; converted values. No other crate uses `pyo3`. Must not know: how pools and private
//! networks work.

mod bytes;
mod completions;
mod devices;
mod drive;
mod errors;
mod events;
mod fork;
mod from_python;
mod function;
mod gpmd;
mod lane;
mod last;
mod lookup;
mod module;
mod node;
mod numbers;
mod op;
mod options;
mod output;
mod plan;
mod scalars;
mod start;
mod to_python;

use pyo3::prelude::*;

/// Allocates memory for Rust; Python keeps its own allocator. It halves the time to pass a value of 1 MB.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[pymodule]
mod _gvm {
    use std::ffi::OsString;

    use gvm_host::CODES;
    use gvm_host::compiler;
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    #[pymodule_export]
    use super::completions::Completions;
    #[pymodule_export]
    use super::devices::{
        network_devices, network_invitations, network_invite, network_join, network_leave, network_remove,
        network_revoke,
    };
    #[pymodule_export]
    use super::events::{Ending, Events};
    #[pymodule_export]
    use super::function::{Function, Twin};
    #[pymodule_export]
    use super::gpmd::{Gpmd, upload};
    #[pymodule_export]
    use super::lane::Lane;
    #[pymodule_export]
    use super::module::ModuleCore;
    #[pymodule_export]
    use super::node::NodeCore;
    #[pymodule_export]
    use super::op::{Awaited, Canceller, Op};
    use crate::errors::Raise;
    use crate::options::Options;
    use crate::{fork, lookup};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let codes: Vec<&str> = CODES.iter().map(|code| code.as_str()).collect();
        module.add("CODES", codes)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    /// Returns the kind of a target: `main`, `function`, or `text` if it contains its arguments.
    #[pyfunction]
    fn target_kind(py: Python<'_>, text: &str) -> PyResult<&'static str> {
        let expr = lookup::read(text).or_raise(py)?;
        Ok(match (&expr.target.function, &expr.args) {
            (_, Some(_)) => "text",
            (Some(_), None) => "function",
            (None, None) => "main",
        })
    }

    /// Returns untrusted text as one line that cannot control a terminal.
    #[pyfunction]
    fn inert(text: &str) -> String {
        gvm_host::text::inert::line(text).into_owned()
    }

    /// Checks the options of a call.
    #[pyfunction]
    fn check_options(options: &Bound<'_, PyDict>) -> PyResult<()> {
        Options::default().with(Some(options)).map(drop)
    }

    /// Runs the compiler process and returns its exit status.
    #[pyfunction]
    fn compile_main(args: Vec<OsString>) -> i32 {
        compiler::child_main(&args)
    }

    /// Records a fork. Called in the child of every fork.
    #[pyfunction]
    fn after_fork_in_child() {
        fork::in_child();
    }

    /// Checks that this is not the child of a fork.
    #[pyfunction]
    fn check_fork(py: Python<'_>) -> PyResult<()> {
        fork::check().or_raise(py)
    }

    /// Logs to standard error with this filter. Has no effect the second time, and then returns False.
    #[pyfunction]
    fn log_to_stderr(filter: &str) -> bool {
        let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_default();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init().is_ok()
    }
}
