//! One error for the whole product.
//!
//! In: a code, a sentence, and how far the call had come. Out: the same three on the screen
//! (`CODE: sentence`), on the wire, in `--json` and in Python. Must not know: wasmtime, capnp,
//! the terminal; each of those maps to and from this type at its own door, once.

use std::borrow::Cow;
use std::fmt;

use crate::base::inert;

/// What went wrong, as a program can test it. The numbers are the wire's: never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Code {
    /// A fault of ours. Nothing the caller can do but report it.
    Internal = 0,
    /// No daemon answers in this home: `gpmd start`.
    GpmdNotRunning = 1,
    /// Something else listens on a port of gpmd: choose another, or 0.
    PortInUse = 2,
    /// A live node has this name: choose another.
    NodeNameTaken = 3,
    /// No live node has this name: `Node.discover()` lists those there are.
    NodeNotFound = 4,
    /// The node exists but is not connected: `Node.connect(name)` first.
    NodeNotConnected = 5,
    /// The other node's accept policy said no.
    ConnectionDenied = 6,
    /// The other node, or the connection to it, went away.
    NodeDown = 7,
    /// The other side does not hold this home's key.
    AuthFailed = 8,
    /// The session does not carry the right to do this.
    NotPermitted = 9,
    /// Others can read or write the home: `chmod 700`.
    HomeInsecure = 10,
    /// The disk refused: free some space; what was acknowledged is safe.
    StorageFull = 11,
    /// The two sides speak protocols too far apart: upgrade the older.
    VersionMismatch = 12,
    /// No such module or version in this home: `gpmd wasm list`.
    ModuleNotFound = 13,
    /// This name and version hold other bytes: take a new version.
    ModuleExists = 14,
    /// The bytes are no WebAssembly module or component that we can run.
    ModuleInvalid = 15,
    /// A stored file is not what was uploaded: upload it again.
    ModuleCorrupt = 16,
    /// The module has no such function; the message lists the near ones.
    FunctionNotFound = 17,
    /// Several interfaces have this function; the message lists the qualified names.
    FunctionAmbiguous = 18,
    /// The arguments do not fit the signature, which the message shows.
    BadArguments = 19,
    /// The signature holds a type that cannot cross (resource, stream, future, v128, reference).
    UnsupportedType = 20,
    /// The module imports what this node does not offer or has not granted.
    ImportUnsatisfied = 21,
    /// No live instance has this name, or it is gone.
    InstanceNotFound = 22,
    /// The guest trapped; the message carries its backtrace.
    Trap = 23,
    /// The guest exited with a status other than 0, or a function exited before it returned.
    GuestExit = 24,
    /// A limit stopped the guest; the message says which and how much.
    LimitExceeded = 25,
    /// The call ran longer than it may.
    Timeout = 26,
    /// The caller took the call back.
    Cancelled = 27,
    /// Too many calls at once: wait and try again.
    Overloaded = 28,
    /// What was typed cannot be read; the message points at the place.
    Syntax = 29,
    /// Output could not be written where it was sent; the call itself may have done its work.
    OutputLost = 30,
}

/// Every code, in the order of their numbers.
pub const CODES: [Code; 31] = [
    Code::Internal,
    Code::GpmdNotRunning,
    Code::PortInUse,
    Code::NodeNameTaken,
    Code::NodeNotFound,
    Code::NodeNotConnected,
    Code::ConnectionDenied,
    Code::NodeDown,
    Code::AuthFailed,
    Code::NotPermitted,
    Code::HomeInsecure,
    Code::StorageFull,
    Code::VersionMismatch,
    Code::ModuleNotFound,
    Code::ModuleExists,
    Code::ModuleInvalid,
    Code::ModuleCorrupt,
    Code::FunctionNotFound,
    Code::FunctionAmbiguous,
    Code::BadArguments,
    Code::UnsupportedType,
    Code::ImportUnsatisfied,
    Code::InstanceNotFound,
    Code::Trap,
    Code::GuestExit,
    Code::LimitExceeded,
    Code::Timeout,
    Code::Cancelled,
    Code::Overloaded,
    Code::Syntax,
    Code::OutputLost,
];

impl Code {
    /// The code as the screen and `--json` show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Internal => "INTERNAL",
            Code::GpmdNotRunning => "GPMD_NOT_RUNNING",
            Code::PortInUse => "PORT_IN_USE",
            Code::NodeNameTaken => "NODE_NAME_TAKEN",
            Code::NodeNotFound => "NODE_NOT_FOUND",
            Code::NodeNotConnected => "NODE_NOT_CONNECTED",
            Code::ConnectionDenied => "CONNECTION_DENIED",
            Code::NodeDown => "NODE_DOWN",
            Code::AuthFailed => "AUTH_FAILED",
            Code::NotPermitted => "NOT_PERMITTED",
            Code::HomeInsecure => "HOME_INSECURE",
            Code::StorageFull => "STORAGE_FULL",
            Code::VersionMismatch => "VERSION_MISMATCH",
            Code::ModuleNotFound => "MODULE_NOT_FOUND",
            Code::ModuleExists => "MODULE_EXISTS",
            Code::ModuleInvalid => "MODULE_INVALID",
            Code::ModuleCorrupt => "MODULE_CORRUPT",
            Code::FunctionNotFound => "FUNCTION_NOT_FOUND",
            Code::FunctionAmbiguous => "FUNCTION_AMBIGUOUS",
            Code::BadArguments => "BAD_ARGUMENTS",
            Code::UnsupportedType => "UNSUPPORTED_TYPE",
            Code::ImportUnsatisfied => "IMPORT_UNSATISFIED",
            Code::InstanceNotFound => "INSTANCE_NOT_FOUND",
            Code::Trap => "TRAP",
            Code::GuestExit => "GUEST_EXIT",
            Code::LimitExceeded => "LIMIT_EXCEEDED",
            Code::Timeout => "TIMEOUT",
            Code::Cancelled => "CANCELLED",
            Code::Overloaded => "OVERLOADED",
            Code::Syntax => "SYNTAX",
            Code::OutputLost => "OUTPUT_LOST",
        }
    }

    /// The code with this wire number; a number of a later version is `Internal`.
    pub fn from_number(number: u16) -> Code {
        CODES.get(usize::from(number)).copied().unwrap_or(Code::Internal)
    }

    /// The wire number.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a failed call may have had effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The guest did not begin: safe to try again.
    #[default]
    NotStarted,
    /// The guest ran, and failed.
    RanAndFailed,
    /// The connection went while it ran: it may have done its work, or some of it.
    Unknown,
}

impl Effect {
    /// The class as `--json` shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::NotStarted => "not-started",
            Effect::RanAndFailed => "ran-and-failed",
            Effect::Unknown => "unknown",
        }
    }
}

/// A coded error. Cheap to move (one pointer), `Send + Sync`.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    effect: Effect,
    message: Cow<'static, str>,
    /// More for a person: a backtrace, a signature, a caret line. Shown below the sentence.
    context: Option<String>,
    /// The guest's status, with `GuestExit`; with other codes the status that a process leaves with.
    exit: Option<i32>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of whatever can fail with a coded error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a call that never began. The message is one line: what a guest, a module or a peer put
    /// into it cannot end the line or act on a terminal.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Error {
        let message = message.into();
        let message = match inert::line(&message) {
            Cow::Borrowed(_) => message,
            Cow::Owned(inert) => Cow::Owned(inert),
        };
        Error(Box::new(Inner {
            code,
            effect: Effect::NotStarted,
            message,
            context: None,
            exit: None,
            source: None,
        }))
    }

    /// The same error, of a call that had come this far.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Error {
        self.0.effect = effect;
        self
    }

    /// The same error with lines that help a person; lines already there stay above. Whoever puts a name
    /// into them passes it through [`inert::line`] first, so that it cannot end its line.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<String>) -> Error {
        let context: String = context.into();
        let context = match inert::lines(&context) {
            Cow::Borrowed(_) => context,
            Cow::Owned(inert) => inert,
        };
        self.0.context = Some(match self.0.context.take() {
            Some(above) => format!("{above}\n{context}"),
            None => context,
        });
        self
    }

    /// The same error with the guest's exit status.
    #[must_use]
    pub fn with_exit(mut self, status: i32) -> Error {
        self.0.exit = Some(status);
        self
    }

    /// The same error with what caused it, for logs.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// The same error for another who waited for the same work; without what caused it.
    #[must_use]
    pub fn again(&self) -> Error {
        let Inner { code, effect, message, context, exit, .. } = &*self.0;
        let (message, context) = (message.clone(), context.clone());
        Error(Box::new(Inner { code: *code, effect: *effect, message, context, exit: *exit, source: None }))
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Whether the call may have had effects.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// The sentence, without the code.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Backtrace, signature or pointer lines, if there are any.
    pub fn context(&self) -> Option<&str> {
        self.0.context.as_deref()
    }

    /// The guest's exit status, with [`Code::GuestExit`].
    pub fn exit(&self) -> Option<i32> {
        self.0.exit
    }

    /// An input or output error of the operating system, said with the noun it was about.
    pub fn io(what: impl fmt::Display, error: std::io::Error) -> Error {
        use std::io::ErrorKind;
        let code = if is_full(&error) { Code::StorageFull } else { Code::Internal };
        let barred = [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::NotADirectory];
        let more =
            if barred.contains(&error.kind()) { "; `gvm doctor` tells what stands in the way" } else { "" };
        Error::new(code, format!("{what}: {error}{more}")).with_source(error)
    }

    /// Output that could not be written to a stream: `STORAGE_FULL` where there is no room, else
    /// `OUTPUT_LOST`.
    pub fn output(what: impl fmt::Display, error: std::io::Error) -> Error {
        let code = if is_full(&error) { Code::StorageFull } else { Code::OutputLost };
        Error::new(code, format!("cannot write to {what}: {error}")).with_source(error)
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::Internal, message)
    }
}

/// Whether there is no room left: on the device, for this user, or within the largest file allowed.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)?;
        if let Some(context) = &self.0.context {
            write!(f, "\n{context}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} [{}]", self.0.effect.as_str())?;
        match &self.0.source {
            Some(source) => write!(f, " ({source:?})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Error) -> bool {
        self.code() == other.code()
            && self.effect() == other.effect()
            && self.message() == other.message()
            && self.exit() == other.exit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbered_by_their_place() {
        for (index, code) in CODES.iter().enumerate() {
            assert_eq!(usize::from(code.number()), index);
            assert_eq!(Code::from_number(code.number()), *code);
        }
        assert_eq!(Code::from_number(u16::MAX), Code::Internal);
    }

    #[test]
    fn shows_code_sentence_and_context() {
        let error = Error::new(Code::Trap, "integer division by zero").with_context("  at div");
        assert_eq!(error.to_string(), "TRAP: integer division by zero\n  at div");
    }

    #[test]
    fn nothing_in_it_acts_on_a_terminal() {
        let error =
            Error::new(Code::Trap, "a\nTRAP: forged\x1b[2K").with_context("  at \x1b]0;x\x07\n  at b");
        assert_eq!(error.to_string(), "TRAP: a\\nTRAP: forged\\u{1b}[2K\n  at \\u{1b}]0;x\\u{7}\n  at b");
    }
}
