//! A call and its outcome: one plain value each, that means the same at every station.
//!
//! In: what the parser read, Python gave or a peer sent. Out: what the engine runs, or a session
//! sends on. Must not know: where the call will run.

pub mod deadline;
pub mod parse;
pub mod rights;
pub mod stdio;
pub mod streams;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use uuid::Uuid;

use crate::base::error::{Error, Result};
use crate::base::id::Name;
use crate::base::limits::Limits;
use crate::base::value::{Type, Value};

/// Which module is meant.
#[derive(Clone, Debug, PartialEq)]
pub enum ModuleRef {
    /// One of the home's, in the version that is chosen there unless one is named.
    Stored { name: Name, version: Option<semver::Version> },
    /// One that comes along with the call.
    Bytes(Arc<[u8]>),
    /// A live instance, by the name it was given.
    Instance(Name),
}

impl ModuleRef {
    /// A stored module, in the version that its home chooses.
    pub fn stored(name: Name) -> ModuleRef {
        ModuleRef::Stored { name, version: None }
    }

    /// The name of a stored module.
    pub fn name(&self) -> Option<&Name> {
        match self {
            ModuleRef::Stored { name, .. } => Some(name),
            ModuleRef::Bytes(_) | ModuleRef::Instance(_) => None,
        }
    }
}

impl std::fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ModuleRef::Stored { name, version: Some(version) } => write!(f, "{name}@{version}"),
            ModuleRef::Stored { name, version: None } | ModuleRef::Instance(name) => write!(f, "{name}"),
            ModuleRef::Bytes(bytes) => write!(f, "a module of {} bytes", bytes.len()),
        }
    }
}

/// What is called: a module's main, or a function of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub module: ModuleRef,
    /// `iface`, `ns:pkg/iface` or `ns:pkg/iface@1.0.0`; none finds the function without.
    pub interface: Option<String>,
    /// None is the module's main.
    pub function: Option<String>,
}

impl Target {
    /// The main of a module.
    pub fn main(module: ModuleRef) -> Target {
        Target { module, interface: None, function: None }
    }

    /// A function of a module, in whichever interface has it.
    pub fn function(module: ModuleRef, function: impl Into<String>) -> Target {
        Target { module, interface: None, function: Some(function.into()) }
    }

    /// The same function, of this interface only.
    #[must_use]
    pub fn interface(mut self, interface: impl Into<String>) -> Target {
        self.interface = Some(interface.into());
        self
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.function {
            Some(function) => write!(f, "{}.{function}", self.module),
            None => write!(f, "{}", self.module),
        }
    }
}

/// What the call is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Args {
    Values(Vec<Value>),
    /// WAVE as it stands between the parentheses, read where the signature is known.
    Text(String),
    /// The arguments of a main; the first is the program's name.
    Argv(Vec<String>),
}

/// One run of one function, wherever it happens.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Call {
    pub id: Uuid,
    pub target: Target,
    pub args: Args,
    /// They narrow the running node's and never widen them.
    pub limits: Limits,
    /// The calls above this one, outermost first: the last one made it.
    pub above: Vec<Uuid>,
    /// Whether the caller needs the result's type to show or convert it.
    pub want_type: bool,
}

impl Call {
    /// A call of one's own, with a new id.
    pub fn new(target: Target, args: Args) -> Call {
        Call {
            id: Uuid::new_v4(),
            target,
            args,
            limits: Limits::default(),
            above: Vec::new(),
            want_type: true,
        }
    }

    /// The same call with these limits, which narrow those of the node that runs it.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Call {
        self.limits = limits;
        self
    }

    /// The same call, made by these calls, outermost first.
    #[must_use]
    pub fn above(mut self, above: Vec<Uuid>) -> Call {
        self.above = above;
        self
    }

    /// The same call; whether its outcome has the type of the result.
    #[must_use]
    pub fn want_type(mut self, want_type: bool) -> Call {
        self.want_type = want_type;
        self
    }
}

/// How a call ended. Every call has exactly one.
#[derive(Debug)]
pub struct Outcome {
    /// None where the function has no result, or a main ended well.
    pub result: Result<Option<Value>, Error>,
    /// The value's type, where it was wanted.
    pub ty: Option<Type>,
    /// What the run took where it ran.
    pub elapsed: Duration,
}

impl Outcome {
    /// The outcome of a call that failed.
    pub fn failed(error: Error) -> Outcome {
        Outcome { result: Err(error), ty: None, elapsed: Duration::ZERO }
    }
}

/// Standard output or error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Why a stream of a call takes or gives no more: what its guest is told, on whichever system it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// Anything that has no kind of its own: a failing disk, a terminal that has gone.
    Io,
    /// No room on the device, for the user or in the file.
    Full,
    /// Nobody reads it any more.
    Pipe,
    /// What is read is a folder.
    IsFolder,
    /// It was closed before the program began.
    Closed,
}

impl From<&io::Error> for Broken {
    fn from(error: &io::Error) -> Broken {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Broken::Full,
            ErrorKind::BrokenPipe => Broken::Pipe,
            ErrorKind::IsADirectory => Broken::IsFolder,
            _ if error.raw_os_error() == Some(Errno::BADF.raw_os_error()) => Broken::Closed,
            _ => Broken::Io,
        }
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> io::Error {
        let errno = match broken {
            Broken::Io => Errno::IO,
            Broken::Full => Errno::NOSPC,
            Broken::Pipe => Errno::PIPE,
            Broken::IsFolder => Errno::ISDIR,
            Broken::Closed => Errno::BADF,
        };
        errno.into()
    }
}

/// A piece of what a guest wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub stream: Stream,
    pub data: Vec<u8>,
}
