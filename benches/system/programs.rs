//! Whole processes: one call with `gvm run`, and with the command line of wasmtime.
//!
//! In: two components. Out: the time from the start of a process to its end. Both keep compiled code, and the first run
//! makes it. Must not know: how the programs work.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::ours::nanos;
use super::{place, python};

/// Both programs, and where they keep compiled code.
pub struct Programs {
    home: PathBuf,
    /// A copy, as an installation makes one: a file that a linker has just written lies scattered in memory.
    gvm: PathBuf,
    words: Result<PathBuf, String>,
    /// What has run before.
    settled: RefCell<HashSet<String>>,
}

impl Programs {
    pub fn new(home: &Path) -> Programs {
        let gvm = home.with_extension("gvm");
        std::fs::copy(place::GVM, &gvm).unwrap();
        Programs { home: home.into(), gvm, words: python_component(), settled: RefCell::default() }
    }

    /// Runs a program some times. The request is `gvm` or `wasmtime`, `small` or `python`, and a number.
    pub fn ask(&self, request: &str) -> Result<Vec<f64>, String> {
        let [program, module, times] = request.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("{request} is unknown"));
        };
        let (module, call, result) = match module {
            "small" => (place::component(), "add(1, 2)", "3"),
            _ => (self.words.clone()?, "longest(\"a bb ccc\")", "some(\"ccc\")"),
        };
        let mut command = match program {
            "gvm" => {
                let mut command = Command::new(&self.gvm);
                command.arg("run").arg("--home").arg(&self.home);
                command
            }
            _ => {
                let path = place::built().join("bin/wasmtime");
                if !path.exists() {
                    return Err("wasmtime is not installed (`benches/system/run --wasmtime-cli`)".into());
                }
                let mut command = Command::new(path);
                command.args(["run", "-C", "cache=y"]).env("HOME", &self.home).env_remove("XDG_CACHE_HOME");
                command
            }
        };
        command.args(["--invoke", call]).arg(&module);
        let count = times.parse::<usize>().map_err(|error| error.to_string())?;
        let mut run = || {
            let began = Instant::now();
            let output = command.output().map_err(|error| format!("{program} does not start: {error}"))?;
            let took = nanos(began);
            match String::from_utf8_lossy(&output.stdout).trim() == result {
                true => Ok(took),
                false => Err(format!("{program} fails: {}", String::from_utf8_lossy(&output.stderr))),
            }
        };
        if self.settled.borrow_mut().insert(format!("{program} {}", module.display())) {
            // The first run compiles, and gvm trusts the times of files that are older than two seconds.
            run()?;
            std::thread::sleep(Duration::from_millis(2500));
            run()?;
        }
        (0..count).map(|_| run()).collect()
    }
}

/// Builds the sample module in Python, once: 18 MB with its interpreter.
fn python_component() -> Result<PathBuf, String> {
    let built = place::built().join("words.wasm");
    if !built.exists() {
        let program = python::installed("componentize-py");
        if !program.exists() {
            return Err("componentize-py is not installed".into());
        }
        let mut command = Command::new(program);
        command.args(["--wit-path", "wit", "--world", "words", "componentize", "app", "-o"]).arg(&built);
        command.current_dir(place::repository().join("gvm-host/samples/words"));
        let output = command.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("componentize-py fails: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    Ok(built)
}
