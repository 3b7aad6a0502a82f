//! Points at a wrong argument in the typed line.
//!
//! In: the line, the places of its arguments, the signature that they do not match. Out: the error, with
//! carets under the argument; lines cut to the width of a terminal. Pure. Must not know: where the call ran.

use std::ops::Range;

use gvm_host::parse::Places;
use gvm_host::{Error, FuncType, SEPARATOR, wave};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use gvm_host::wave::Misread;

/// How many rows of a terminal a line of the context, such as a signature, may take.
const ROWS: usize = 4;

/// Returns the error of arguments that do not match the signature; `None` if they match.
pub fn misfit(line: &str, places: &Places, args: &[String], signature: &str, ty: &FuncType) -> Option<Error> {
    let text = args.join(SEPARATOR);
    let misread = wave::parse_args(&text, ty).err()?;
    let span = in_line(line, places, args, &misread.span)?;
    let error = Misread { span, ..misread }.into_error(line);
    Some(error.with_context(format!("  {signature}")))
}

/// Converts a span of the joined arguments to a span of the line.
fn in_line(line: &str, places: &Places, args: &[String], span: &Range<usize>) -> Option<Range<usize>> {
    let mut start = 0;
    for (arg, place) in args.iter().zip(&places.args) {
        let end = start + arg.len();
        if span.start < end {
            let typed = line.get(place.clone())?;
            // The argument is the result of a nested call: point at the call.
            if !arg.starts_with(typed) {
                return Some(place.clone());
            }
            let at =
                |place_in_text: usize| (place.start + place_in_text.saturating_sub(start)).min(place.end);
            return Some(at(span.start)..at(span.end));
        }
        start = end + SEPARATOR.len();
    }
    // 0 means that the line has no closing parenthesis.
    (places.close > 0).then(|| places.close..places.close + 1)
}

/// Fits the lines of an error to a terminal of this width. A line with carets under it is cut, because
/// otherwise it would wrap, and the carets would be under its end. Very long signatures are cut too. Other
/// lines, such as the message and the help, stay whole: the terminal wraps them.
pub fn fit(text: &str, columns: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_pointer = |line: &str| !line.trim().is_empty() && line.trim().chars().all(|c| c == '^');
    let mut shown = Vec::with_capacity(lines.len());
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        match lines.get(at + 1).filter(|next| is_pointer(next) && line.width() >= columns) {
            Some(pointer) => {
                shown.extend(cut(line, pointer, columns));
                at += 2;
            }
            None => {
                shown.push(shortened(line, columns));
                at += 1;
            }
        }
    }
    shown.join("\n")
}

/// Cuts a signature that would fill the terminal; `help` shows it whole.
fn shortened(line: &str, columns: usize) -> String {
    match line.char_indices().nth((columns * ROWS).max(1)) {
        Some((end, _)) if line.starts_with("  ") => format!("{}…", &line[..end]),
        _ => line.to_owned(),
    }
}

/// Returns the part of a line around the carets, and the line with the carets.
fn cut(line: &str, pointer: &str, columns: usize) -> [String; 2] {
    const INDENT: usize = 2;
    let room = columns.saturating_sub(INDENT + 3).max(1);
    let start = pointer.len() - pointer.trim_start().len();
    let carets = (pointer.trim().len()).min(room);
    // A quarter of the room is for the text after the carets, if there is any.
    let from = (start + carets + room / 4).min(line.width()).saturating_sub(room).max(INDENT).min(start);
    let (mut column, mut begins, mut part) = (0, None, String::new());
    for c in line.chars() {
        let width = c.width().unwrap_or(0);
        if column >= from && column + width <= from + room {
            begins.get_or_insert(column);
            part.push(c);
        }
        column += width;
    }
    let begins = begins.unwrap_or(from);
    let before = if begins > INDENT { "…" } else { "" };
    let after = if line.width() > from + room { "…" } else { "" };
    let indent = " ".repeat(INDENT + before.width() + start.saturating_sub(begins));
    [format!("{:INDENT$}{before}{part}{after}", ""), format!("{indent}{}", "^".repeat(carets))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use gvm_host::parse::{Arg, Statement, statement};
    use gvm_host::{Field, Type};

    fn carets(line: &str) -> String {
        let Statement::Expr(expr) = statement(line).unwrap() else { panic!("{line} is no call") };
        let texts: Vec<String> = expr
            .args
            .unwrap()
            .into_iter()
            .map(|arg| match arg {
                Arg::Wave(text) => text,
                Arg::Call(..) => "\"a result\"".into(),
            })
            .collect();
        let field = |name: &str| Field { name: name.into(), ty: Type::S32 };
        let ty = FuncType { params: vec![field("a"), field("b")].into(), result: None };
        let error = misfit(line, &expr.places, &texts, "f: func()", &ty).unwrap();
        let context = error.context().unwrap().to_owned();
        let mut lines = context.lines();
        assert_eq!(lines.next().unwrap(), format!("  {line}"));
        lines.next().unwrap()[2..].to_owned()
    }

    #[test]
    fn a_line_is_cut_to_the_terminal_where_it_is_pointed_into() {
        let under = |text: &str, columns: usize| {
            let shown = fit(text, columns);
            let lines: Vec<&str> = shown.lines().collect();
            assert!(lines[1].width() < columns && lines[2].width() < columns, "{shown}");
            let start = lines[2].find('^').unwrap();
            let mut column = 0;
            let pointed = lines[1].chars().skip_while(|c| {
                column += c.width().unwrap();
                column <= start
            });
            pointed.take(lines[2].trim().len()).collect::<String>()
        };
        let error = |before: &str, place: &str, after: &str| {
            let carets = "^".repeat(place.width());
            format!("BAD: no\n  {before}{place}{after}\n  {:1$}{carets}", "", before.width())
        };
        for columns in [20, 40, 80] {
            for before in ["m.f(", &"x".repeat(70), &"x".repeat(300), &"世界".repeat(30)] {
                for after in [")", &"y".repeat(200)] {
                    let text = error(before, "ABC", after);
                    let short = text.lines().nth(1).unwrap().width() < columns;
                    assert_eq!(under(&text, columns), "ABC", "{columns} {before} {after}");
                    assert_eq!(fit(&text, columns) == text, short);
                }
            }
        }
        assert!(under(&error("m.f(", &"z".repeat(500), ")"), 40).chars().all(|c| "z…".contains(c)));
        assert_eq!(fit("BAD: a long line that is pointed into by nothing", 10).lines().count(), 1);
        let help = format!("BAD: no\n  m.f(x)\n      ^\nhelp: {}", "write a number ".repeat(50));
        assert_eq!(fit(&help, 20), help, "the help stays whole");
    }

    #[test]
    fn the_caret_stands_under_what_was_typed() {
        assert_eq!(carets("m.f(1, x)"), "       ^");
        assert_eq!(carets("  m.f( \"é\" ,2)"), "       ^^^");
        assert_eq!(carets("m.f(1)"), "     ^");
        assert_eq!(carets("m.f()"), "    ^");
        assert_eq!(carets("m.f(1, 2,  3)"), "           ^");
        assert_eq!(carets("m.f(1, [1, 2])"), "       ^^^^^^");
        assert_eq!(carets("m.f(1, m.g(2))"), "       ^^^^^^");
    }
}
