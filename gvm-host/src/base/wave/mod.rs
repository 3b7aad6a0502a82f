//! Values as text, in WAVE: the component model's own notation, which `wasmtime run --invoke` reads
//! and prints too.
//!
//! In: text and a type; out, a value, or a [`Misread`] that points at the place. And back: a value and
//! its type into text. The grammar is `wasm-wave`'s parser; what it leaves to types is done here.
//! Must not know: wasmtime, the terminal, where the text came from.

pub mod letters;
mod read;
mod write;

use std::fmt;
use std::ops::Range;

pub use read::{parse, parse_args};
use unicode_width::UnicodeWidthStr;
pub use write::{print, write};

use crate::base::error::{Code, Error};

/// The most characters of a line that [`Misread::point`] shows on either side of the place.
const SHOWN: usize = 60;

/// Text that is no value of the type, and where it fails to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// The bytes of the text that the message is about; at its end where something is missing.
    pub span: Range<usize>,
    /// What is wrong, in one sentence.
    pub message: String,
}

impl Misread {
    /// The line that the place is in, and a line of carets under it.
    pub fn point(&self, text: &str) -> String {
        let start = text.floor_char_boundary(self.span.start.min(text.len()));
        let end = text.ceil_char_boundary(self.span.end.min(text.len())).max(start);
        let before = text[..start].rsplit('\n').next().unwrap_or_default();
        let place = text[start..end].split('\n').next().unwrap_or_default();
        let after = text[start + place.len()..].split('\n').next().unwrap_or_default();

        let skipped = before.chars().count().saturating_sub(SHOWN);
        let mut shown: String = before.chars().skip(skipped).collect();
        // In columns: a letter may take two, or none.
        let columns = |text: &str| text.replace('\t', " ").width();
        let (indent, carets) = (columns(&shown), columns(place).clamp(1, SHOWN));
        shown.extend(place.chars().chain(after.chars()).take(carets + SHOWN));
        format!("  {}\n  {}{}", shown.replace('\t', " "), " ".repeat(indent), "^".repeat(carets))
    }

    /// The error, with the place pointed at.
    pub fn into_error(self, text: &str) -> Error {
        let context = self.point(text);
        Error::new(Code::BadArguments, self.message).with_context(context)
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
        Error::new(Code::BadArguments, misread.to_string())
    }
}

#[cfg(test)]
mod tests;
