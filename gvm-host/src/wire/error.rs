//! Errors to and from the wire, and the errors of capnp itself.
//!
//! In: our [`Error`], a peer's `Error`, or capnp's. Out: the error in the other form. Must not know: which
//! request failed. Bytes from a peer never cause a panic: a code or class of a later version is read as
//! `INTERNAL` or `unknown`.

use capnp::ErrorKind;

use super::schema::error_capnp::{Effect as WireEffect, error};
use crate::base::error::{Code, Effect, Error, Reason};
use crate::base::inert;

/// The longest message, context or help accepted from a peer, in bytes; the rest is cut off.
const MOST: usize = 64 << 10;

/// The longest goodbye reason accepted from the other side, in characters.
const REASON: usize = 100;

/// The help for sides that do not understand each other.
pub const SAME_RELEASE: &str = "install the same release on both sides";

/// Writes an error. Its source does not cross: it is for this side's log.
pub fn write(from: &Error, mut to: error::Builder<'_>) {
    to.set_code(from.code().number());
    to.set_effect(match from.effect() {
        Effect::NotStarted => WireEffect::NotStarted,
        Effect::RanAndFailed => WireEffect::RanAndFailed,
        Effect::Unknown => WireEffect::Unknown,
    });
    to.set_message(cut(from.message()));
    if let Some(context) = from.context() {
        to.set_context(cut(context));
    }
    if let Some(help) = from.help() {
        to.set_help(cut(help));
    }
    to.set_reason(from.reason().map_or(0, Reason::number));
    if let Some(exit) = from.exit() {
        to.set_has_exit(true);
        to.set_exit(exit);
    }
}

/// Reads an error that a peer sent. Fields that cannot be read are left out.
pub fn read(from: error::Reader<'_>) -> Error {
    let text = |text: capnp::Result<capnp::text::Reader<'_>>| {
        text.map(|text| cut(&String::from_utf8_lossy(text.as_bytes())).to_owned()).unwrap_or_default()
    };
    let effect = match from.get_effect() {
        Ok(WireEffect::NotStarted) => Effect::NotStarted,
        Ok(WireEffect::RanAndFailed) => Effect::RanAndFailed,
        Ok(WireEffect::Unknown) | Err(_) => Effect::Unknown,
    };
    let mut error =
        Error::new(Code::from_number(from.get_code()), text(from.get_message())).with_effect(effect);
    if from.has_context() {
        error = error.with_context(indented(&text(from.get_context())));
    }
    if from.has_help() {
        error = error.with_help(text(from.get_help()));
    }
    if let Some(reason) = Reason::from_number(from.get_reason()) {
        error = error.with_reason(reason);
    }
    if from.get_has_exit() {
        error = error.with_exit(from.get_exit());
    }
    error
}

/// Indents the lines of a peer's context like our own, so that none of them looks like a separate message.
fn indented(context: &str) -> String {
    let line = |line: &str| match line.starts_with("  ") || line.is_empty() {
        true => line.to_owned(),
        false => format!("  {line}"),
    };
    context.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The error of a message that has something newer than this version: `what`, a noun with its article.
pub fn unknown(what: &str) -> Error {
    let sentence = format!("the other side sent {what} that this version does not know");
    Error::new(Code::VersionMismatch, sentence).with_help(SAME_RELEASE)
}

/// Converts capnp's error of a request to `noun` (`gpmd`, `node-8399`). A lost connection has the code `gone`
/// (`GPMD_NOT_RUNNING`, `NODE_DOWN`). The caller adds whether the request may have had effects.
pub fn from_capnp(error: capnp::Error, noun: &str, gone: Code) -> Error {
    let (code, sentence) = match error.kind {
        ErrorKind::Disconnected | ErrorKind::PrematureEndOfFile => {
            (gone, format!("the connection to {noun} is gone"))
        }
        ErrorKind::Overloaded => (Code::Overloaded, format!("{noun} is overloaded")),
        ErrorKind::Unimplemented => (Code::VersionMismatch, format!("{noun} does not support this request")),
        ErrorKind::Failed => (Code::Internal, format!("{noun} failed to answer: {}", cut(&error.extra))),
        _ => (Code::Internal, format!("cannot read a message from {noun}: {error}")),
    };
    let coded = Error::new(code, sentence).with_source(error);
    match code {
        Code::Overloaded => coded.with_help("wait and try again"),
        Code::VersionMismatch => coded.with_help(SAME_RELEASE),
        _ => coded,
    }
}

/// Reads the other side's goodbye reason: one line of at most 100 characters.
///
/// # Errors
/// capnp's, if the message cannot be read.
pub fn reason(from: capnp::Result<capnp::text::Reader<'_>>) -> capnp::Result<String> {
    let text = String::from_utf8_lossy(from?.as_bytes()).chars().take(REASON).collect::<String>();
    Ok(inert::line(&text).into_owned())
}

/// Cuts a text to the length that may cross.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(error: &Error) -> Error {
        let mut message = capnp::message::Builder::new_default();
        write(error, message.init_root());
        read(message.get_root_as_reader().unwrap())
    }

    #[test]
    fn crosses_unchanged() {
        let error = Error::new(Code::GuestExit, "left with 3")
            .with_effect(Effect::RanAndFailed)
            .with_context("  é\n\n    b")
            .with_help("run `x`")
            .with_reason(Reason::Unanswered)
            .with_exit(3);
        let back = there_and_back(&error);
        assert_eq!(back, error);
        assert_eq!(back.reason(), error.reason());
        assert_eq!(back.context(), error.context());
        assert_eq!(there_and_back(&Error::new(Code::Timeout, "x")).context(), None);
        let forged = there_and_back(&Error::new(Code::Timeout, "x").with_context("  at f\nTRAP: forged"));
        assert_eq!(forged.context(), Some("  at f\n  TRAP: forged"));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let back = there_and_back(&Error::new(Code::Trap, "é".repeat(MOST)));
        assert_eq!(back.message().len(), MOST);
    }

    #[test]
    fn reasons_are_one_harmless_line() {
        let long = "x\n\u{1b}[2K".repeat(100);
        let read = reason(Ok(long.as_str().into())).unwrap();
        assert!(read.starts_with("x\\n\\u{1b}[2Kx"), "{read}");
        assert!(read.chars().count() < 1000 && !read.chars().any(inert::acts));
    }

    #[test]
    fn a_code_or_class_of_a_later_version_can_be_read() {
        let mut message = capnp::message::Builder::new_default();
        message.init_root::<error::Builder<'_>>().set_code(9999);
        assert_eq!(read(message.get_root_as_reader().unwrap()).code(), Code::Internal);
    }

    #[test]
    fn the_schema_has_every_code() {
        use crate::base::error::CODES;
        use crate::wire::schema::error_capnp::Code as WireCode;
        for code in CODES {
            let wire = WireCode::try_from(code.number()).unwrap();
            let name = format!("{wire:?}");
            assert_eq!(name, format!("{code:?}"));
        }
        assert!(WireCode::try_from(CODES.len() as u16).is_err());
    }

    #[test]
    fn a_lost_connection_has_its_noun() {
        let error = from_capnp(capnp::Error::disconnected("x".into()), "node-1", Code::NodeDown);
        assert_eq!(error.to_string(), "NODE_DOWN: the connection to node-1 is gone");
    }
}
