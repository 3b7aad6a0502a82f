//! A position in a line, and the parsers of the smallest parts of a line.
//!
//! In: a line. Out: words, names, versions, quoted texts, the end of a value, or `SYNTAX` with a caret under the
//! place. Pure. Must not know: statements.

use std::str::FromStr;

use crate::base::device::NodeName;
use crate::base::error::{Code, Error, Result};
use crate::base::id::{Name, parse_version};
use crate::base::near;
use crate::base::wave::Misread;

/// A line, and how far it has been parsed.
pub(super) struct Cursor<'a> {
    pub(super) line: &'a str,
    pub(super) at: usize,
    /// How many calls are open at this position.
    pub(super) depth: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(line: &'a str) -> Cursor<'a> {
        Cursor { line, at: 0, depth: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    pub(super) fn at_end(&self) -> bool {
        self.at == self.line.len()
    }

    /// Skips spaces and comments. A comment ends with its line.
    pub(super) fn space(&mut self) {
        loop {
            self.at = self.line.len() - self.rest().trim_start().len();
            if !self.rest().starts_with("//") {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    pub(super) fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    pub(super) fn expect(&mut self, token: &str) -> Result<()> {
        self.space();
        if self.eat(token) { Ok(()) } else { Err(self.error(format!("expected `{token}`"))) }
    }

    /// Skips what may follow a statement: spaces, and comments of both kinds.
    pub(super) fn end(&mut self) -> Result<()> {
        self.space();
        if self.rest().starts_with('#') {
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
            return self.end();
        }
        if self.at_end() { Ok(()) } else { Err(self.error("expected the end of the statement")) }
    }

    /// Returns a `SYNTAX` error that points at the position of the cursor.
    pub(super) fn error(&self, message: impl std::fmt::Display) -> Error {
        error_at(self.line, self.at, message)
    }

    pub(super) fn word(&mut self, also: &str) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || also.contains(c))).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    pub(super) fn name(&mut self) -> Result<Name> {
        self.named("-_")
    }

    /// Parses the name of a node, with or without its device.
    pub(super) fn node_name(&mut self) -> Result<NodeName> {
        self.named("-_@")
    }

    fn named<T: FromStr<Err = Error>>(&mut self, also: &str) -> Result<T> {
        self.space();
        let start = self.at;
        let text = if self.rest().starts_with('"') { self.quoted()? } else { self.word(also).to_owned() };
        if text.is_empty() {
            return Err(self.error("expected a name"));
        }
        text.parse().map_err(|error: Error| match meant(&text) {
            Some(word) if self.line[..start].trim().is_empty() => {
                error_at(self.line, start, format!("`{text}` is not a module: did you mean `{word}`?"))
            }
            _ => moved_to(self.line, start, &error),
        })
    }

    pub(super) fn quoted(&mut self) -> Result<String> {
        let start = self.at;
        self.expect("\"")?;
        let mut text = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        self.at = start;
        Err(self.error("this quote is not closed"))
    }

    /// Parses a version after `@`: in quotes, or three numbers, or any version that no function follows. A
    /// function after a prerelease could be a part of the version: `1.0.0-rc.1.add` is a version too.
    pub(super) fn version(&mut self) -> Result<semver::Version> {
        let start = self.at;
        let text = if self.rest().starts_with('"') {
            self.quoted()?
        } else {
            let rest = self.rest();
            let all =
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".+-".contains(c))).unwrap_or(rest.len());
            let behind = &rest[all..];
            if let (Ok(version), false) = (parse_version(&rest[..all]), behind.starts_with(['(', '"'])) {
                self.at += all;
                return Ok(version);
            }
            let mut dots = 0;
            let end = rest
                .char_indices()
                .find(|(index, c)| match c {
                    '.' => {
                        dots += 1;
                        dots > 2
                    }
                    'v' => *index > 0,
                    c => !c.is_ascii_digit(),
                })
                .map_or(rest.len(), |(index, _)| index);
            // The rest belongs to the version. Only quotes can separate it from a function.
            let end = if rest[end..].starts_with(['-', '+']) { all } else { end };
            self.at += end;
            rest[..end].to_owned()
        };
        let quoted = self.line[start..].starts_with('"');
        match parse_version(&text) {
            Ok(version) if quoted || version.pre.is_empty() && version.build.is_empty() => Ok(version),
            Ok(_) => {
                Err(error_at(self.line, start, "this version needs quotes, because a function follows it")
                    .with_help("write it as in `math@\"1.0.0-rc.1\".add(1, 2)`"))
            }
            Err(error) => Err(moved_to(self.line, start, &error)),
        }
    }
}

/// Guesses what a word at the beginning of a statement means if it is not a valid name.
fn meant(text: &str) -> Option<String> {
    const WORDS: [&str; 4] = ["Node", "Module", "exit", "help"];
    if let Some(word) = WORDS.into_iter().find(|word| word.eq_ignore_ascii_case(text)) {
        return (word != text).then(|| word.to_owned());
    }
    let near = near::nearest(text, ["Node", "Module"]).first().map(|near| (*near).to_owned());
    let lower = || Some(text.to_lowercase()).filter(|lower| lower.parse::<Name>().is_ok());
    near.filter(|_| text.starts_with(char::is_uppercase)).or_else(lower)
}

/// Returns the end of the WAVE value that begins at `start`: the first comma or closing bracket outside of it.
/// If there is no end, the error is the place of an unclosed quote, if there is one.
pub(super) fn wave_end(line: &str, start: usize) -> std::result::Result<usize, Option<usize>> {
    let mut depth = 0usize;
    let mut chars = line[start..].char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if line[start + at..].starts_with("\"\"\"") => {
                let inside = start + at + 3;
                let Some(length) = line[inside..].find("\"\"\"") else { return Err(Some(start + at)) };
                let end = inside + length + 3;
                while chars.peek().is_some_and(|(next, _)| start + next < end) {
                    chars.next();
                }
            }
            '"' | '\'' => loop {
                match chars.next() {
                    Some((_, '\\')) => drop(chars.next()),
                    Some((_, end)) if end == c => break,
                    Some(_) => {}
                    None => return Err(Some(start + at)),
                }
            },
            '/' if line[start + at..].starts_with("//") => {
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' | ',' if depth == 0 => return Ok(start + at),
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    Err(None)
}

/// Returns a `SYNTAX` error with the line and a caret under the place.
pub(super) fn error_at(line: &str, at: usize, message: impl std::fmt::Display) -> Error {
    let misread = Misread { span: at..at, message: message.to_string(), help: None };
    let context = misread.point(line);
    Error::new(Code::Syntax, misread.message).with_context(context)
}

/// Returns the message and the help of an error as a `SYNTAX` error that points at this place.
pub(super) fn moved_to(line: &str, at: usize, error: &Error) -> Error {
    let pointed = error_at(line, at, error.message());
    match error.help() {
        Some(help) => pointed.with_help(help.to_owned()),
        None => pointed,
    }
}
