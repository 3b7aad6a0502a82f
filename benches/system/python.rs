//! Python processes that call with one package each.
//!
//! In: the virtual environment that `benches/system/run` makes. Out: workers. Must not know: what is measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::place;
use super::worker::Worker;

/// Returns the path of a program in the virtual environment.
pub fn installed(program: &str) -> PathBuf {
    place::built().join("python/bin").join(program)
}

/// Starts Python with this package, and what it calls: a home, or the path of a module.
pub fn start(package: &str, what: &Path) -> Result<Worker, String> {
    let python = installed("python");
    if !python.exists() {
        return Err("there is no virtual environment".into());
    }
    let callers = place::repository().join("benches/system/callers.py");
    Worker::start(Command::new(python).arg(callers).arg(package).arg(what))
        .map_err(|error| format!("Python with {package}: {error}"))
}

/// Writes extism's module in binary form and returns its path.
pub fn plugin(folder: &Path) -> Result<PathBuf, String> {
    let text = std::fs::read(place::repository().join("benches/system/plugin.wat"));
    let text = text.map_err(|error| error.to_string())?;
    let binary = gvm_host::inspect::to_binary(&text);
    let path = folder.join("plugin.wasm");
    std::fs::write(&path, binary.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    Ok(path)
}
