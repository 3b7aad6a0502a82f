//! One error for the whole product.
//!
//! In: a code, a message, help, and whether the call may have had effects. Out: one value that the screen, the
//! wire, `--json` and Python show. Must not know: wasmtime, capnp, the terminal. Each of those converts to and
//! from this type in one place.

use std::borrow::Cow;
use std::fmt;

use crate::base::inert;

pub use super::code::{CODES, Code};

impl Code {
    /// Returns the code with this wire number; `Internal` for a number of a later version.
    pub fn from_number(number: u16) -> Code {
        CODES.get(usize::from(number)).copied().unwrap_or(Code::Internal)
    }

    /// Returns the wire number.
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
    /// The guest did not start: the call can safely be repeated.
    #[default]
    NotStarted,
    /// The guest started and failed.
    RanAndFailed,
    /// The connection was lost during the call: the guest may have done all, some or none of its work.
    Unknown,
}

impl Effect {
    /// Returns the name that `--json` uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Effect::NotStarted => "not-started",
            Effect::RanAndFailed => "ran-and-failed",
            Effect::Unknown => "unknown",
        }
    }
}

/// The cause of an error, where a program treats one cause of a code differently from others. The numbers are
/// those of the wire and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Reason {
    /// `CONNECTION_DENIED`: the node asks a person, and no person was there or answered.
    Unanswered = 1,
    /// `INTERNAL`: the file system of the folder of compiled code forbids executable files.
    NotExecutable = 2,
    /// `SYNTAX`: the settings file has an error.
    Settings = 3,
}

impl Reason {
    /// Returns the reason with this wire number; `None` for 0 and for numbers of later versions.
    pub fn from_number(number: u16) -> Option<Reason> {
        [Reason::Unanswered, Reason::NotExecutable, Reason::Settings]
            .into_iter()
            .find(|reason| reason.number() == number)
    }

    /// Returns the wire number.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// A coded error. Cheap to move (one pointer), `Send + Sync`.
///
/// Its parts: what happened (`message`), further lines for a person (`context`), and what to do (`help`).
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    effect: Effect,
    message: Cow<'static, str>,
    /// Further lines for a person: a backtrace, a signature, a caret. Shown below the message.
    context: Option<String>,
    /// What the reader can do, in one line.
    help: Option<Cow<'static, str>>,
    /// The shell command that `help` suggests.
    command: Option<String>,
    reason: Option<Reason>,
    /// With `GuestExit`, the guest's exit status; with other codes, the exit status of this process.
    exit: Option<i32>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A result whose error has a code.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an error of a call that did not start. The message becomes one line: control characters from a
    /// guest, a module or a peer are escaped.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner {
            code,
            effect: Effect::NotStarted,
            message: one_line(message.into()),
            context: None,
            help: None,
            command: None,
            reason: None,
            exit: None,
            source: None,
        }))
    }

    /// Adds what the reader can do: one imperative sentence, in one line.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<Cow<'static, str>>) -> Error {
        self.0.help = Some(one_line(help.into()));
        self
    }

    /// Adds the shell command that fixes the problem, also as help. The help crosses the wire; the command does
    /// not.
    #[must_use]
    pub fn with_command(mut self, command: impl Into<String>) -> Error {
        let command = command.into();
        let help = format!("run `{command}`");
        self.0.command = Some(command);
        self.with_help(help)
    }

    /// Adds the reason, which programs can test.
    #[must_use]
    pub fn with_reason(mut self, reason: Reason) -> Error {
        self.0.reason = Some(reason);
        self
    }

    /// Sets whether the call may have had effects.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Error {
        self.0.effect = effect;
        self
    }

    /// Adds lines for a person, below those that are there already. The caller passes names in them through
    /// [`inert::line`] first, so that a name cannot end its line.
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

    /// Adds an exit status: the guest's, or the one of this process.
    #[must_use]
    pub fn with_exit(mut self, status: i32) -> Error {
        self.0.exit = Some(status);
        self
    }

    /// Adds the cause, for logs.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// Returns a copy, for a second caller that waited for the same work. The copy has no cause.
    #[must_use]
    pub fn again(&self) -> Error {
        let Inner { code, effect, message, context, help, command, reason, exit, source: _ } = &*self.0;
        Error(Box::new(Inner {
            code: *code,
            effect: *effect,
            message: message.clone(),
            context: context.clone(),
            help: help.clone(),
            command: command.clone(),
            reason: *reason,
            exit: *exit,
            source: None,
        }))
    }

    /// Returns the code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Returns whether the call may have had effects.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// Returns the message, without the code.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the further lines, such as a backtrace, a signature or a caret, if there are any.
    pub fn context(&self) -> Option<&str> {
        self.0.context.as_deref()
    }

    /// Returns what the reader can do, if that is known.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Returns the shell command that fixes the problem, if there is one.
    pub fn command(&self) -> Option<&str> {
        self.0.command.as_deref()
    }

    /// Returns the reason, if there is one.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// Returns the error as `--json` prints it: `code`, `message`, `outcome`, and `context`, `help` and `exit` if
    /// there are any.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({
            "code": self.code().as_str(),
            "message": self.message(),
            "outcome": self.effect().as_str(),
        });
        if let Some(context) = self.context() {
            json["context"] = context.into();
        }
        if let Some(help) = self.help() {
            json["help"] = help.into();
        }
        if let Some(status) = self.exit() {
            json["exit"] = status.into();
        }
        json
    }

    /// Returns the exit status: the guest's with [`Code::GuestExit`], else the one of this process.
    pub fn exit(&self) -> Option<i32> {
        self.0.exit
    }

    /// Creates an error from one of the operating system. `what` says what failed, as in "cannot read `x`".
    /// Adds help if access is denied.
    pub fn io(what: impl fmt::Display, error: std::io::Error) -> Error {
        use std::io::ErrorKind;
        let code = if is_full(&error) { Code::StorageFull } else { Code::Internal };
        let barred = [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem, ErrorKind::NotADirectory];
        let barred = barred.contains(&error.kind());
        let coded = Error::new(code, format!("{what}: {error}")).with_source(error);
        match barred {
            true => coded.with_help("run `gvm doctor` to find out what denies access"),
            false => coded,
        }
    }

    /// Creates an error of output that cannot be written to a stream: `STORAGE_FULL` if there is no space, else
    /// `OUTPUT_LOST`.
    pub fn output(what: impl fmt::Display, error: std::io::Error) -> Error {
        let code = if is_full(&error) { Code::StorageFull } else { Code::OutputLost };
        Error::new(code, format!("cannot write to {what}: {error}")).with_source(error)
    }

    /// Creates an `INTERNAL` error.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Code::Internal, message)
    }
}

/// Returns the text as one line without control characters.
fn one_line(text: Cow<'static, str>) -> Cow<'static, str> {
    match inert::line(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(inert) => Cow::Owned(inert),
    }
}

/// Returns whether there is no space: on the disk, in the user's quota, or below the largest allowed file size.
pub fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)?;
        if let Some(context) = &self.0.context {
            write!(f, "\n{context}")?;
        }
        if let Some(help) = &self.0.help {
            write!(f, "\nhelp: {help}")?;
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
            && self.help() == other.help()
            && self.exit() == other.exit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbered_by_their_position() {
        for (index, code) in CODES.iter().enumerate() {
            assert_eq!(usize::from(code.number()), index);
            assert_eq!(Code::from_number(code.number()), *code);
        }
        assert_eq!(Code::from_number(u16::MAX), Code::Internal);
    }

    #[test]
    fn shows_code_message_context_and_help() {
        let error = Error::new(Code::Trap, "integer division by zero").with_context("  at div");
        assert_eq!(error.to_string(), "TRAP: integer division by zero\n  at div");
        let error = error.with_help("fix the module");
        assert_eq!(error.to_string(), "TRAP: integer division by zero\n  at div\nhelp: fix the module");
    }

    #[test]
    fn control_characters_are_escaped() {
        let error =
            Error::new(Code::Trap, "a\nTRAP: forged\x1b[2K").with_context("  at \x1b]0;x\x07\n  at b");
        assert_eq!(error.to_string(), "TRAP: a\\nTRAP: forged\\u{1b}[2K\n  at \\u{1b}]0;x\\u{7}\n  at b");
    }
}
