//! Values as text in WAVE, the notation of the component model, which `wasmtime run --invoke` also uses.
//!
//! In: text and a type, or a value and its type. Out: a value, or a [`Misread`] that points at the place; or
//! text. `wasm-wave` parses the grammar; this folder checks the types. Must not know: wasmtime, the terminal,
//! where the text comes from.

pub mod letters;
mod read;
mod write;

use std::fmt;
use std::ops::Range;

pub use read::{parse, parse_args};
use unicode_width::UnicodeWidthStr;
pub use write::{print, write};

use crate::base::error::{Code, Error};

/// The most characters of a line that [`Misread::point`] shows on each side of the place.
const SHOWN: usize = 60;

/// An error in the text of a value, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// The bytes of the text that the message is about; the end of the text if something is missing.
    pub span: Range<usize>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to write instead, if that is known.
    pub help: Option<String>,
}

impl Misread {
    /// Returns the line with the place, and a line of carets under it.
    pub fn point(&self, text: &str) -> String {
        let start = text.floor_char_boundary(self.span.start.min(text.len()));
        let end = text.ceil_char_boundary(self.span.end.min(text.len())).max(start);
        let before = text[..start].rsplit('\n').next().unwrap_or_default();
        let place = text[start..end].split('\n').next().unwrap_or_default();
        let after = text[start + place.len()..].split('\n').next().unwrap_or_default();

        let skipped = before.chars().count().saturating_sub(SHOWN);
        let mut shown: String = before.chars().skip(skipped).collect();
        // In columns: a character may take two, or none.
        let columns = |text: &str| text.replace('\t', " ").width();
        let (indent, carets) = (columns(&shown), columns(place).clamp(1, SHOWN));
        shown.extend(place.chars().chain(after.chars()).take(carets + SHOWN));
        format!("  {}\n  {}{}", shown.replace('\t', " "), " ".repeat(indent), "^".repeat(carets))
    }

    /// Returns the error, `BAD_ARGUMENTS`, with a caret under the place.
    pub fn into_error(self, text: &str) -> Error {
        let context = self.point(text);
        bad_arguments(self.message, self.help).with_context(context)
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.message, self.span.start)
    }
}

impl std::error::Error for Misread {}

impl From<Misread> for Error {
    fn from(misread: Misread) -> Error {
        bad_arguments(misread.to_string(), misread.help)
    }
}

fn bad_arguments(message: String, help: Option<String>) -> Error {
    let error = Error::new(Code::BadArguments, message);
    match help {
        Some(help) => error.with_help(help),
        None => error,
    }
}

#[cfg(test)]
mod tests;
