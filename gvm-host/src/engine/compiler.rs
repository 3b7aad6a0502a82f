//! The compiler, in a process of its own: Cranelift can be neither cancelled nor bounded in place.
//!
//! In: a file of validated or hostile wasm. Out: a file of code for this machine, or why not. The
//! parent side starts and watches the child; the child side bounds itself first and then compiles.
//! Must not know: where compiled code is kept (`cache.rs`).

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Resource, Rlimit, Signal};

use super::config::{Clocked, Kind};
use crate::base::error::{Code, Error, Result};
use crate::base::limits;

/// The word that makes a program of ours a compiler.
pub const WORD: &str = "__compile";

/// Statuses of the child beyond success.
const INVALID: i32 = 3;
const REFUSED: i32 = 4;

/// How to start the compiler child: a program of ours and the words before the compiler's own.
///
/// A program compiles in itself where it hands [`WORD`] to [`child_main`] ([`Compiler::current`]), or in a helper
/// program ([`Compiler::program`]), such as `gvm-compile` of this package.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Compiler {
    /// This very program, which must hand [`WORD`] to [`child_main`].
    ///
    /// # Errors
    /// `INTERNAL` where the system does not tell which program this is.
    pub fn current() -> Result<Compiler> {
        let program = std::env::current_exe().map_err(|error| Error::io("finding this program", error))?;
        Ok(Compiler { program, args: vec![WORD.into()] })
    }

    /// A helper program that hands all its arguments to [`child_main`], as `gvm-compile` does.
    pub fn program(program: impl Into<PathBuf>) -> Compiler {
        Compiler { program: program.into(), args: Vec::new() }
    }

    /// The same program, with words of its own before the compiler's.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Compiler {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Compiles `wasm` into `code`. Dropping the future kills the child.
    ///
    /// # Errors
    /// `MODULE_INVALID` with what the compiler said; `LIMIT_EXCEEDED` where it took more memory or
    /// time than it may; `INTERNAL` where it cannot be started.
    pub async fn compile(&self, kind: Kind, wasm: &Path, code: &Path) -> Result<()> {
        let mut child = tokio::process::Command::new(&self.program)
            .args(&self.args)
            .arg(if kind.fuel { "fuel" } else { "plain" })
            .arg(wasm)
            .arg(code)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env_remove("RUST_BACKTRACE")
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Error::io(format!("starting the compiler {}", self.program.display()), error))?;
        let stderr = child.stderr.take();
        let work = async {
            let mut said = Vec::new();
            if let Some(stderr) = stderr {
                use tokio::io::AsyncReadExt;
                let _ = stderr.take(64 << 10).read_to_end(&mut said).await;
            }
            let status = child.wait().await.map_err(|error| Error::io("waiting for the compiler", error))?;
            Ok::<_, Error>((status, String::from_utf8_lossy(&said).trim().to_owned()))
        };
        match tokio::time::timeout(limits::COMPILER_WALL, work).await {
            Ok(ended) => {
                let (status, said) = ended?;
                judge(status, said)
            }
            Err(_) => Err(Error::new(
                Code::LimitExceeded,
                format!("compiling took longer than {} s", limits::COMPILER_WALL.as_secs()),
            )),
        }
    }
}

fn judge(status: std::process::ExitStatus, said: String) -> Result<()> {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(INVALID), _) => {
            Err(Error::new(Code::ModuleInvalid, format!("the module cannot be compiled: {said}")))
        }
        (_, Some(signal)) if signal == Signal::XCPU.as_raw() || signal == Signal::KILL.as_raw() => {
            Err(Error::new(
                Code::LimitExceeded,
                format!("compiling took more than {} s of processor time", limits::COMPILER_CPU_SECONDS),
            ))
        }
        (_, Some(signal)) if signal == Signal::ABORT.as_raw() || signal == Signal::SEGV.as_raw() => {
            Err(Error::new(
                Code::LimitExceeded,
                format!(
                    "compiling took more memory than {} MiB, or more stack than it may",
                    limits::COMPILER_MEMORY >> 20
                ),
            ))
        }
        _ => Err(Error::internal(format!("the compiler ended with {status}: {said}"))),
    }
}

/// The child's main: `plain|fuel WASM CODE`. Returns its exit status; what went wrong is on
/// standard error.
pub fn child_main(args: &[OsString]) -> i32 {
    use std::io::Write;
    match child(args) {
        Ok(()) => 0,
        Err((status, said)) => {
            let _ = writeln!(std::io::stderr(), "{said}");
            status
        }
    }
}

fn child(args: &[OsString]) -> Result<(), (i32, String)> {
    let refused = |said: String| (REFUSED, said);
    let [kind, wasm, code] = args else {
        return Err(refused("expected: plain|fuel WASM CODE".into()));
    };
    bound_self().map_err(|error| refused(format!("cannot bound the compiler: {error}")))?;
    let mut bytes = Vec::new();
    std::fs::File::open(wasm)
        .and_then(|file| file.take(limits::MODULE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| refused(format!("reading the module: {error}")))?;
    let kind = Kind { pooling: false, fuel: kind == "fuel" };
    let engine = Clocked::get(kind).map_err(|error| refused(error.to_string()))?.engine;
    let compiled = if crate::modules::is_component(&bytes) {
        engine.precompile_component(&bytes)
    } else {
        engine.precompile_module(&bytes)
    };
    let compiled = compiled.map_err(|error| (INVALID, format!("{error:#}")))?;
    std::fs::write(code, compiled).map_err(|error| refused(format!("writing the code: {error}")))
}

/// Memory and time of this process from here on; it also dies with its parent and yields to others.
fn bound_self() -> rustix::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(Resource::Data, limit(limits::COMPILER_MEMORY))?;
    rustix::process::setrlimit(Resource::Cpu, limit(limits::COMPILER_CPU_SECONDS))?;
    rustix::process::setrlimit(Resource::Core, limit(0))?;
    let _ = rustix::process::nice(5);
    Ok(())
}
