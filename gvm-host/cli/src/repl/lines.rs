//! Splits text into statements.
//!
//! In: text that was typed or pasted at once, or line by line. Out: statements; whether one continues. Pure.
//! Must not know: what they mean.

use crate::repl::assist::lex::{Kind, tokens};

/// Returns the statements of a text. A statement ends at the end of a line, unless a bracket or quotation is
/// open.
pub fn statements(text: &str) -> Vec<&str> {
    let (mut found, mut start, mut depth, mut at) = (Vec::new(), 0, 0usize, 0);
    for token in tokens(text) {
        match (token.kind, &text[token.span.clone()]) {
            (Kind::Mark('(' | '[' | '{'), _) => depth += 1,
            (Kind::Mark(')' | ']' | '}'), _) => depth = depth.saturating_sub(1),
            (Kind::Space | Kind::Comment, shown) if depth == 0 => {
                if let Some(end) = shown.find('\n') {
                    found.push(&text[start..token.span.start + end]);
                    start = token.span.start + end + 1;
                }
            }
            _ => {}
        }
        at = token.span.end;
    }
    found.push(&text[start..at]);
    found.into_iter().map(str::trim).filter(|statement| !statement.is_empty()).collect()
}

/// Tracks whether a statement continues on the next line: it does while a bracket or a text in triple quotes
/// is open. Reads each line once.
#[derive(Debug, Default)]
pub struct Open {
    brackets: usize,
    quoted: bool,
    begun: bool,
}

impl Open {
    /// Reads the next line, without its line feed. Returns whether the statement continues after it.
    pub fn feed(&mut self, line: &str) -> bool {
        let mut rest = line;
        if !self.begun && !line.trim().is_empty() {
            self.begun = true;
            // The topic of help may be any text.
            if line.trim_start().starts_with("help") {
                return false;
            }
        }
        if self.quoted {
            let Some(end) = rest.find(TRIPLE) else { return true };
            rest = &rest[end + TRIPLE.len()..];
            self.quoted = false;
        }
        for token in tokens(rest) {
            let shown = &rest[token.span];
            match token.kind {
                Kind::Mark('(' | '[' | '{') => self.brackets += 1,
                Kind::Mark(')' | ']' | '}') => self.brackets = self.brackets.saturating_sub(1),
                // A text in triple quotes continues until the closing quotes. Other texts must end on their
                // line; if one does not, the parser reports it.
                Kind::Quoted if shown.starts_with(TRIPLE) => {
                    self.quoted = shown.len() < 2 * TRIPLE.len() || !shown.ends_with(TRIPLE);
                }
                Kind::Quoted if !is_closed(shown) => return false,
                _ => {}
            }
        }
        self.quoted || self.brackets > 0
    }
}

/// Returns whether a text in single or double quotes is closed.
fn is_closed(quoted: &str) -> bool {
    let mut chars = quoted.chars();
    let quote = chars.next();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if Some(c) == quote => return true,
            _ => {}
        }
    }
    false
}

/// The quotes around a text of several lines.
const TRIPLE: &str = "\"\"\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_statements_where_nothing_is_open() {
        assert_eq!(statements("math.add(1,2)"), ["math.add(1,2)"]);
        assert_eq!(statements("a.f(1)\nb.f(2)\n\n  c\n"), ["a.f(1)", "b.f(2)", "c"]);
        assert_eq!(
            statements("a.f(\n  1, // one)\n  [2,\n3]\n)\nb"),
            ["a.f(\n  1, // one)\n  [2,\n3]\n)", "b"]
        );
        assert_eq!(statements("a.f(\"x\ny\")\nb"), ["a.f(\"x\ny\")", "b"]);
        assert_eq!(statements("# it's (\na"), ["# it's (", "a"]);
        assert_eq!(statements(" \n "), [""; 0]);
        assert_eq!(statements("a.f(\nb"), ["a.f(\nb"]);
        assert_eq!(
            statements("l.g(\"\"\"\n  a)\n  b\n  \"\"\")\nb"),
            ["l.g(\"\"\"\n  a)\n  b\n  \"\"\")", "b"]
        );
    }

    /// Returns for each line whether the statement continues after it.
    fn open(text: &str) -> Vec<bool> {
        let mut open = Open::default();
        text.split('\n').map(|line| open.feed(line)).collect()
    }

    #[test]
    fn statements_go_on_within_brackets_and_triple_quotes() {
        assert_eq!(open("a.f(1)"), [false]);
        assert_eq!(open("a.f(\n  1, // )\n  [2,\n3]\n)"), [true, true, true, true, false]);
        assert_eq!(open("l.g(\"\"\"\n  it's (\n  \"\"\")"), [true, true, false]);
        assert_eq!(open("l.g(\"\"\"one\"\"\")"), [false]);
        assert_eq!(open("l.g(\"\"\"\"\"\")"), [false], "nothing within");
        assert_eq!(open("l.g(\"\"\"\n\"\"\", \"\"\"\n\"\"\")"), [true, true, false]);
        assert_eq!(open("# it's ("), [false]);
        assert_eq!(open("help it's ("), [false]);
        assert_eq!(open("a.f(\"(\")"), [false]);
        for wrong in ["a.f(\"x", "a.f('x", "a.f(\"", "a.f(\"x\\\"", "a.f(\"x\\\\\\\""] {
            assert_eq!(open(wrong), [false], "the parser says what is wrong with {wrong}");
        }
        assert_eq!(open("a.f(\"x\\\\\","), [true]);
    }
}
