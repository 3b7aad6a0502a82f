//! Several statements, cut apart.
//!
//! In: what was typed or pasted at once. Out: its statements. Pure. Must not know: what they mean.

use crate::repl::assist::lex::{Kind, tokens};

/// The statements of a text of several lines: a line's end parts them where no bracket is open, nor a
/// quotation.
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
    }
}
