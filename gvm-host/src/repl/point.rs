//! A wrong argument, pointed at where it was typed.
//!
//! In: the line, where its arguments stand in it, the signature that they do not fit. Out: the error, with
//! a caret under the place in the line. Pure. Must not know: where the call ran.

use std::ops::Range;

use crate::error::Error;
use crate::value::FuncType;
use crate::wave::{self, Misread};

/// Where a call's arguments stand in a line. Two calls that mean the same are equal wherever they stand.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Each argument's.
    pub args: Vec<Range<usize>>,
    /// The closing parenthesis, where something may be missing.
    pub close: usize,
}

impl PartialEq for Places {
    fn eq(&self, _: &Places) -> bool {
        true
    }
}

/// What joins the texts of arguments.
pub const BETWEEN: &str = ", ";

/// The error of arguments that do not fit the signature; none where they do.
pub fn misfit(line: &str, places: &Places, args: &[String], function: &str, ty: &FuncType) -> Option<Error> {
    let text = args.join(BETWEEN);
    let misread = wave::parse_args(&text, ty).err()?;
    let span = in_line(line, places, args, &misread.span)?;
    let error = Misread { span, message: misread.message }.into_error(line);
    Some(error.with_context(format!("  {function}: {ty}")))
}

/// A span of the joined arguments as a span of the line.
fn in_line(line: &str, places: &Places, args: &[String], span: &Range<usize>) -> Option<Range<usize>> {
    let mut start = 0;
    for (arg, place) in args.iter().zip(&places.args) {
        let end = start + arg.len();
        if span.start < end {
            let typed = line.get(place.clone())?;
            // A nested call's result is not what was typed: the call is.
            if !arg.starts_with(typed) {
                return Some(place.clone());
            }
            let at =
                |place_in_text: usize| (place.start + place_in_text.saturating_sub(start)).min(place.end);
            return Some(at(span.start)..at(span.end));
        }
        start = end + BETWEEN.len();
    }
    // Nowhere is where no parenthesis can stand.
    (places.close > 0).then(|| places.close..places.close + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repl::parse::{Arg, Statement, statement};
    use crate::value::{Field, Type};

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
        let error = misfit(line, &expr.places, &texts, "f", &ty).unwrap();
        let context = error.context().unwrap().to_owned();
        let mut lines = context.lines();
        assert_eq!(lines.next().unwrap(), format!("  {line}"));
        lines.next().unwrap()[2..].to_owned()
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
