//! Compiles modules in a child process, because Cranelift cannot be cancelled or limited inside this process.
//!
//! In: a file of wasm, valid or hostile. Out: a file of code for this machine, or an error. The parent starts and
//! watches the child; the child limits its own memory and time, then compiles. Must not know: where compiled code
//! is stored (`cache.rs`).

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Resource, Rlimit, Signal};

use super::config::{Clocked, Kind};
use crate::base::error::{Code, Error, Result, is_full};
use crate::base::limits;

/// The first argument that makes a program of ours a compiler.
pub const WORD: &str = "__compile";

/// The exit statuses of the child other than success.
const INVALID: i32 = 3;
const REFUSED: i32 = 4;
const FULL: i32 = 5;

/// How to start the compiler child: a program of ours, and the arguments before the compiler's own.
///
/// The program is this one, if it calls [`child_main`] for [`WORD`] ([`Compiler::current`]), or a helper program
/// ([`Compiler::program`]), such as `gvm-compile` of this package.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Compiler {
    /// Uses this program, which must call [`child_main`] when its first argument is [`WORD`].
    ///
    /// # Errors
    /// `INTERNAL` if the system does not say which program this is.
    pub fn current() -> Result<Compiler> {
        let program = std::env::current_exe()
            .map_err(|error| Error::io("cannot find the file of this program", error))?;
        Ok(Compiler { program, args: vec![WORD.into()] })
    }

    /// Uses a helper program that passes all its arguments to [`child_main`], as `gvm-compile` does.
    pub fn program(program: impl Into<PathBuf>) -> Compiler {
        Compiler { program: program.into(), args: Vec::new() }
    }

    /// Adds arguments of the program itself, before those of the compiler.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Compiler {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Compiles `wasm` into `code`. Dropping the future kills the child.
    ///
    /// # Errors
    /// `MODULE_INVALID` with the compiler's message; `LIMIT_EXCEEDED` if it needs more memory or time than it
    /// may use; `INTERNAL` if it cannot be started.
    pub async fn compile(&self, kind: Kind, wasm: &Path, code: &Path) -> Result<()> {
        let mut child = tokio::process::Command::new(&self.program)
            .args(&self.args)
            .arg(kind.word())
            .arg(wasm)
            .arg(code)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env_remove("RUST_BACKTRACE")
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                Error::io(format!("cannot start the compiler {}", self.program.display()), error)
            })?;
        let stderr = child.stderr.take();
        let work = async {
            let mut said = Vec::new();
            if let Some(stderr) = stderr {
                use tokio::io::AsyncReadExt;
                let _ = stderr.take(64 << 10).read_to_end(&mut said).await;
            }
            let status =
                child.wait().await.map_err(|error| Error::io("cannot wait for the compiler", error))?;
            Ok::<_, Error>((status, String::from_utf8_lossy(&said).trim().to_owned()))
        };
        match tokio::time::timeout(limits::COMPILER_WALL, work).await {
            Ok(ended) => {
                let (status, said) = ended?;
                judge(status, said)
            }
            Err(_) => Err(Error::new(
                Code::LimitExceeded,
                format!("compiling takes longer than {} s", limits::COMPILER_WALL.as_secs()),
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
        (Some(FULL), _) => Err(Error::new(Code::StorageFull, said)),
        (_, Some(signal)) if signal == Signal::XCPU.as_raw() || signal == Signal::KILL.as_raw() => {
            Err(Error::new(
                Code::LimitExceeded,
                format!("compiling takes more than {} s of processor time", limits::COMPILER_CPU_SECONDS),
            ))
        }
        (_, Some(signal)) if signal == Signal::ABORT.as_raw() || signal == Signal::SEGV.as_raw() => {
            Err(Error::new(
                Code::LimitExceeded,
                format!(
                    "compiling takes more than {} MiB of memory, or too much stack",
                    limits::COMPILER_MEMORY >> 20
                ),
            ))
        }
        _ => Err(Error::internal(format!("the compiler ended with {status}: {said}"))),
    }
}

/// Runs the child, with the arguments `KIND WASM CODE`, where the kind is `plain`, `fuel`, `async` or `async-fuel`. Returns its exit status, and writes errors to
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
    let kind = args.first().and_then(|word| Kind::of_word(word.to_str()?));
    let (Some(kind), [_, wasm, code]) = (kind, args) else {
        return Err(refused("expected: plain|fuel|async|async-fuel WASM CODE".into()));
    };
    bound_self().map_err(|error| refused(format!("cannot limit the compiler: {error}")))?;
    let mut bytes = Vec::new();
    std::fs::File::open(wasm)
        .and_then(|file| file.take(limits::MODULE_BYTES).read_to_end(&mut bytes))
        .map_err(|error| refused(format!("cannot read the module: {error}")))?;
    let engine = &Clocked::get(kind).map_err(|error| refused(error.to_string()))?.engine;
    let compiled = if crate::modules::is_component(&bytes) {
        engine.precompile_component(&bytes)
    } else {
        engine.precompile_module(&bytes)
    };
    let compiled = compiled.map_err(|error| (INVALID, format!("{error:#}")))?;
    std::fs::write(code, compiled).map_err(|error| {
        let status = if is_full(&error) { FULL } else { REFUSED };
        (status, format!("cannot write the code: {error}"))
    })
}

/// Limits the memory and time of this process from here on, ends it with its parent, and lowers its priority.
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
