//! Splits a line into tokens.
//!
//! In: any text. Out: tokens that cover the whole text, even if it has errors. Pure. Must not know: what the
//! tokens mean together (`place.rs`), how they look (`highlight.rs`).

use std::ops::Range;

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Space,
    Comment,
    /// A name, a keyword, a case of a variant; the name of a node with its device: `node-1@laptop`.
    Word,
    /// A version, with the `@` before it.
    Version,
    Number,
    /// A string or a char, closed or not.
    Quoted,
    /// One of `( ) [ ] { } , : .`, or any other character.
    Mark(char),
}

/// A token: its kind, and its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub span: Range<usize>,
}

/// Splits a text into tokens.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let (kind, length) = token(&text[at..], first);
        tokens.push(Token { kind, span: at..at + length });
        at += length;
    }
    tokens
}

fn token(rest: &str, first: char) -> (Kind, usize) {
    match first {
        c if c.is_whitespace() => (Kind::Space, run(rest, char::is_whitespace)),
        '#' => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
        '/' if rest.starts_with("//") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
        '"' if rest.starts_with("\"\"\"") => {
            (Kind::Quoted, rest[3..].find("\"\"\"").map_or(rest.len(), |end| end + 6))
        }
        '"' | '\'' => (Kind::Quoted, quoted(rest, first)),
        '@' => (Kind::Version, version(rest)),
        c if c.is_ascii_digit() => (Kind::Number, number(rest)),
        '-' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => (Kind::Number, 1 + number(&rest[1..])),
        c if c.is_alphabetic() || c == '%' => {
            let part = |c: char| c.is_alphanumeric() || "-_".contains(c);
            let word = c.len_utf8() + run(&rest[c.len_utf8()..], part);
            (Kind::Word, word + device(&rest[word..]))
        }
        c => (Kind::Mark(c), c.len_utf8()),
    }
}

/// Returns the length in bytes of the leading characters for which `part` is true.
fn run(rest: &str, part: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !part(c)).unwrap_or(rest.len())
}

/// Returns the length of the name of a device, with the `@` before it; 0 if a version or something else follows.
fn device(rest: &str) -> usize {
    let Some(name) = rest.strip_prefix('@') else { return 0 };
    let is_version = name.starts_with('v') && name[1..].starts_with(|c: char| c.is_ascii_digit());
    match name.starts_with(|c: char| c.is_ascii_lowercase()) && !is_version {
        true => 1 + run(name, |c| c.is_ascii_alphanumeric() || c == '-'),
        false => 0,
    }
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            end if end == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Returns the length of a version: `@1.2.3`, `@1.0.0-rc.1` or `@"1.0.0-rc.1"`. As in the parser, a third dot
/// ends the three numbers, but an unquoted prerelease takes all dots that follow.
fn version(rest: &str) -> usize {
    if rest[1..].starts_with('"') {
        return 1 + quoted(&rest[1..], '"');
    }
    let mut dots = 0;
    let part = |(at, c): &(usize, char)| match c {
        '.' => {
            dots += 1;
            dots <= 2
        }
        'v' => *at == 0,
        c => c.is_ascii_digit(),
    };
    let numbers = 1 + rest[1..].char_indices().take_while(part).count();
    match rest[numbers..].starts_with(['-', '+']) {
        true => numbers + run(&rest[numbers..], |c| c.is_ascii_alphanumeric() || ".+-".contains(c)),
        false => numbers,
    }
}

fn number(rest: &str) -> usize {
    let whole = run(rest, |c| c.is_ascii_digit());
    let mut end = whole;
    if rest[end..].starts_with('.') {
        end += 1 + run(&rest[end + 1..], |c| c.is_ascii_digit());
    }
    if rest[end..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
        let digits = run(&rest[end + 1 + sign..], |c| c.is_ascii_digit());
        if digits > 0 {
            end += 1 + sign + digits;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<(Kind, &str)> {
        tokens(text).into_iter().map(|token| (token.kind, &text[token.span])).collect()
    }

    #[test]
    fn a_call() {
        use Kind::*;
        assert_eq!(
            cut("math@1.2.3.add(-1, \"a)\") // x"),
            [
                (Word, "math"),
                (Version, "@1.2.3"),
                (Mark('.'), "."),
                (Word, "add"),
                (Mark('('), "("),
                (Number, "-1"),
                (Mark(','), ","),
                (Space, " "),
                (Quoted, "\"a)\""),
                (Mark(')'), ")"),
                (Space, " "),
                (Comment, "// x"),
            ]
        );
        assert_eq!(cut("1.5e-3"), [(Number, "1.5e-3")]);
        assert_eq!(cut("node-8399"), [(Word, "node-8399")]);
        assert_eq!(cut("'\\'"), [(Quoted, "'\\'")]);
    }

    proptest! {
        #[test]
        fn whatever_is_typed_is_covered(text in ".*") {
            let joined: String = tokens(&text).into_iter().map(|token| text[token.span].to_owned()).collect();
            prop_assert_eq!(joined, text);
        }

        #[test]
        fn marks_and_quotes_are_covered(text in "[-a1.@\"'#/(){},: é\\\\]*") {
            let joined: String = tokens(&text).into_iter().map(|token| text[token.span].to_owned()).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
