//! One error for the whole product.
//!
//! In: a code, a message, what the reader can do, and how far the call had come. Out: the same on the screen,
//! on the wire, in `--json` and in Python. Must not know: wasmtime, capnp, the terminal. Each of those converts
//! to and from this type in one place.

use std::borrow::Cow;
use std::fmt;

use crate::base::inert;

pub use super::code::{CODES, Code};

impl Code {
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

/// Why, where a program does something about one cause of a code and not about another. The numbers are those of
/// the wire and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u16)]
pub enum Reason {
    /// `CONNECTION_DENIED`: the node asks a person, and nobody was there, or answered.
    Unanswered = 1,
    /// `INTERNAL`: the folder of compiled code may not hold executable files.
    NotExecutable = 2,
    /// `SYNTAX`: the settings file has an error.
    Settings = 3,
}

impl Reason {
    /// The reason with this wire number; none for 0 and for those of later versions.
    pub fn from_number(number: u16) -> Option<Reason> {
        [Reason::Unanswered, Reason::NotExecutable, Reason::Settings]
            .into_iter()
            .find(|reason| reason.number() == number)
    }

    /// The wire number.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

/// A coded error. Cheap to move (one pointer), `Send + Sync`.
///
/// Its parts: what happened (`message`), more lines for a person (`context`), and what to do (`help`).
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    effect: Effect,
    message: Cow<'static, str>,
    /// More for a person: a backtrace, a signature, a caret line. Shown below the sentence.
    context: Option<String>,
    /// What the reader can do, as one line.
    help: Option<Cow<'static, str>>,
    /// The shell command that `help` says to run.
    command: Option<String>,
    reason: Option<Reason>,
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

    /// The same error with what the reader can do: one line, a sentence in the imperative or a command.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<Cow<'static, str>>) -> Error {
        self.0.help = Some(one_line(help.into()));
        self
    }

    /// The same error with the shell command that fixes it; it becomes the help too. The command stays in this
    /// process: it does not cross the wire.
    #[must_use]
    pub fn with_command(mut self, command: impl Into<String>) -> Error {
        let command = command.into();
        let help = format!("run `{command}`");
        self.0.command = Some(command);
        self.with_help(help)
    }

    /// The same error with the reason that programs test.
    #[must_use]
    pub fn with_reason(mut self, reason: Reason) -> Error {
        self.0.reason = Some(reason);
        self
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

    /// What the reader can do about it, where that is known.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The shell command that fixes it, where there is one.
    pub fn command(&self) -> Option<&str> {
        self.0.command.as_deref()
    }

    /// The reason that programs test, where there is one.
    pub fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// The error as `--json` gives it: `code`, `message`, `outcome`, and `context`, `help` and `exit` where
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

    /// The guest's exit status, with [`Code::GuestExit`].
    pub fn exit(&self) -> Option<i32> {
        self.0.exit
    }

    /// An input or output error of the operating system, said with the noun it was about.
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

/// The text as one line in which nothing acts on a terminal.
fn one_line(text: Cow<'static, str>) -> Cow<'static, str> {
    match inert::line(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(inert) => Cow::Owned(inert),
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
