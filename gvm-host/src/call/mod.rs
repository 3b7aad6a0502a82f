//! A call and its outcome: plain values that have the same meaning everywhere.
//!
//! In: a call from the parser, Python or a peer. Out: a call for the engine or for a session, and its outcome.
//! Must not know: where the call runs.

pub mod deadline;
pub mod parse;
pub mod rights;
pub mod stdio;
pub mod streams;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::io::Errno;
use uuid::Uuid;

use crate::base::error::{Error, Result};
use crate::base::id::{Hash, Name, call_id};
use crate::base::limits::Limits;
use crate::base::value::{Type, Value};

/// The module that a call names.
#[derive(Clone, Debug, PartialEq)]
pub enum ModuleRef {
    /// A module of the home. Without a version, the index of the home chooses it.
    Stored { name: Name, version: Option<semver::Version> },
    /// What the caller's device has under this name. The node that runs the call gets the bytes from there if it lacks them.
    Pinned { name: Name, hash: Hash },
    /// The bytes of a module, sent with the call.
    Bytes(ModuleBytes),
    /// A module that the node which runs the call has loaded before, by the hash of its bytes.
    Loaded(Hash),
    /// A live instance, by its name.
    Instance(Name),
}

impl ModuleRef {
    /// Returns a reference to a stored module, in the version that its home chooses.
    pub fn stored(name: Name) -> ModuleRef {
        ModuleRef::Stored { name, version: None }
    }

    /// Returns the name of a module that is stored where the call runs.
    pub fn name(&self) -> Option<&Name> {
        match self {
            ModuleRef::Stored { name, .. } => Some(name),
            ModuleRef::Pinned { .. }
            | ModuleRef::Bytes(_)
            | ModuleRef::Loaded(_)
            | ModuleRef::Instance(_) => None,
        }
    }
}

impl std::fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ModuleRef::Stored { name, version: Some(version) } => write!(f, "{name}@{version}"),
            ModuleRef::Stored { name, version: None }
            | ModuleRef::Pinned { name, .. }
            | ModuleRef::Instance(name) => write!(f, "{name}"),
            ModuleRef::Bytes(bytes) => write!(f, "a module of {} bytes", bytes.len()),
            ModuleRef::Loaded(hash) => write!(f, "the module {hash}"),
        }
    }
}

/// The bytes of a module. Their hash is calculated once. Cheap to clone; clones share both.
#[derive(Clone, Debug)]
pub struct ModuleBytes {
    bytes: Arc<[u8]>,
    hash: Arc<OnceLock<Hash>>,
}

impl ModuleBytes {
    /// Returns the SHA-256 of the bytes.
    pub fn hash(&self) -> Hash {
        *self.hash.get_or_init(|| Hash::of(&self.bytes))
    }

    /// Returns the bytes without a copy.
    pub fn shared(&self) -> Arc<[u8]> {
        self.bytes.clone()
    }
}

impl std::ops::Deref for ModuleBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl PartialEq for ModuleBytes {
    fn eq(&self, other: &ModuleBytes) -> bool {
        self.bytes == other.bytes
    }
}

impl<T: Into<Arc<[u8]>>> From<T> for ModuleBytes {
    fn from(bytes: T) -> ModuleBytes {
        ModuleBytes { bytes: bytes.into(), hash: Arc::default() }
    }
}

/// What a call runs: the main of a module, or one of its functions.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub module: ModuleRef,
    /// `iface`, `ns:pkg/iface` or `ns:pkg/iface@1.0.0`; `None` finds the function by its name alone.
    pub interface: Option<String>,
    /// `None` is the module's main.
    pub function: Option<String>,
}

impl Target {
    /// Returns the target of a module's main.
    pub fn main(module: ModuleRef) -> Target {
        Target { module, interface: None, function: None }
    }

    /// Returns the target of a function, in any interface of the module.
    pub fn function(module: ModuleRef, function: impl Into<String>) -> Target {
        Target { module, interface: None, function: Some(function.into()) }
    }

    /// Restricts the target to this interface.
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

/// The arguments of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Args {
    Values(Vec<Value>),
    /// The WAVE text between the parentheses, parsed on the node that knows the signature.
    Text(String),
    /// The arguments of a main; the first is the program's name.
    Argv(Vec<String>),
}

impl Default for Args {
    fn default() -> Args {
        Args::Values(Vec::new())
    }
}

impl Args {
    /// Takes the arguments, and leaves none.
    pub(crate) fn take(&mut self) -> Args {
        std::mem::take(self)
    }
}

/// One run of one function, on this node or another. Plain data, `Send + Sync`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Call {
    pub id: Uuid,
    pub target: Target,
    pub args: Args,
    /// They can lower the limits of the node that runs the call, and never raise them.
    pub limits: Limits,
    /// The calls that led to this one, outermost first: the last one made it.
    pub above: Vec<Uuid>,
    /// Whether the caller needs the type of the result, to show or convert it.
    pub want_type: bool,
}

impl Call {
    /// Creates a call with a new id and no limits.
    pub fn new(target: Target, args: Args) -> Call {
        Call { id: call_id(), target, args, limits: Limits::default(), above: Vec::new(), want_type: true }
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
    /// `None` if the function has no result, or a main succeeded.
    pub result: Result<Option<Value>, Error>,
    /// The type of the value, if the call asked for it.
    pub ty: Option<Type>,
    /// How long the call took on the node that ran it. Most calls of a fast function are not measured, because reading
    /// the clock takes a tenth of the time of a small call.
    pub elapsed: Option<Duration>,
}

impl Outcome {
    /// Returns the outcome of a call that failed.
    pub fn failed(error: Error) -> Outcome {
        Outcome { result: Err(error), ty: None, elapsed: None }
    }
}

/// Standard output or error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Why a stream of a call can no longer be written or read. The guest gets this reason on every system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// Any other failure: a failing disk, a closed terminal.
    Io,
    /// No space: on the disk, in the user's quota or in the file.
    Full,
    /// The reader closed it.
    Pipe,
    /// The input is a folder.
    IsFolder,
    /// It was closed before the program started.
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

/// A piece of a guest's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub stream: Stream,
    pub data: Vec<u8>,
}
