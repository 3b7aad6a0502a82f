//! Hints after the cursor.
//!
//! In: the typed text, the known names, the history. Out: the rest of the newest line of the history with the
//! same beginning, which the right arrow accepts; the remaining parameters of the call, which no key accepts.
//! Must not know: the terminal.

use nu_ansi_term::{Color, Style};
use reedline::{DefaultHinter, Hinter, History};

use super::known::{Known, Names};
use super::place::Place;
use gvm_host::parse::{MODULE_METHODS, NODE_METHODS};

/// The number of characters that are shown of a parameter. `help` shows large types whole.
const SHOWN: usize = 60;

/// Shows hints: parameters, and lines of the history.
pub struct Hint {
    names: Names,
    history: DefaultHinter,
}

impl Hint {
    pub fn new(names: Names) -> Hint {
        Hint { names, history: DefaultHinter::default().with_style(Style::new().fg(Color::DarkGray)) }
    }
}

impl Hinter for Hint {
    fn handle(&mut self, line: &str, pos: usize, history: &dyn History, colour: bool, cwd: &str) -> String {
        // Without colours, a line of the history would look like typed text. So only the parameters are
        // shown, in brackets.
        let before = match colour {
            true => self.history.handle(line, pos, history, colour, cwd),
            false => String::new(),
        };
        let takes = match pos == line.len() {
            true => takes(line, &self.names.modules()),
            false => None,
        };
        match takes {
            None => before,
            Some(takes) if colour => before.clone() + &takes.painted(before.is_empty()),
            Some(takes) => format!("  [{}]", takes.all()),
        }
    }

    fn complete_hint(&self) -> String {
        self.history.complete_hint()
    }

    fn next_hint_token(&self) -> String {
        self.history.next_hint_token()
    }
}

/// The remaining parameters of the innermost call.
#[derive(Debug, PartialEq)]
struct Takes {
    /// The parameter at the cursor; `None` if there are too many arguments.
    now: Option<String>,
    /// The parameters after it.
    then: Vec<String>,
    /// Whether a part of the argument is already typed.
    begun: bool,
}

impl Takes {
    fn all(&self) -> String {
        match &self.now {
            None => "too many arguments".to_owned(),
            Some(now) => [std::slice::from_ref(now), &self.then].concat().join(", "),
        }
    }

    fn painted(&self, first: bool) -> String {
        // The parameters are shown where the argument will be typed, or after what is already typed.
        let space = if first && !self.begun { "" } else { "  " };
        let dim = Style::new().fg(Color::DarkGray).italic();
        let Some(now) = &self.now else { return format!("{space}{}", Color::Red.paint(self.all())) };
        let then: String = self.then.iter().map(|param| format!(", {param}")).collect();
        format!("{space}{}{}", dim.underline().paint(now), dim.paint(then))
    }
}

fn shortened(mut param: String) -> String {
    if let Some((end, _)) = param.char_indices().nth(SHOWN) {
        param.truncate(end);
        param.push('…');
    }
    param
}

fn takes(line: &str, known: &Known) -> Option<Takes> {
    let place = Place::at_end(line);
    let open = place.call()?;
    let methods = |all: &[(&str, &'static str, &str)], name: &str| {
        let method = all.iter().find(|(method, ..)| *method == name)?;
        Some(method.1.split(", ").filter(|param| !param.is_empty()).map(str::to_owned).collect())
    };
    let params: Vec<String> = match open.callee.parts.as_slice() {
        ["Node", name] => methods(&NODE_METHODS, name)?,
        ["Module", name] => methods(&MODULE_METHODS, name)?,
        parts => {
            let function = known.function(parts, open.callee.version)?;
            function.params().into_iter().map(|param| function.shown(param)).collect()
        }
    };
    let begun = !line.get(open.since..)?.trim().is_empty();
    let mut left = params.into_iter().skip(open.arg).map(shortened);
    match left.next() {
        Some(now) => Some(Takes { now: Some(now), then: left.collect(), begun }),
        // A call without parameters needs only its closing parenthesis.
        None if open.arg == 0 && !begun => None,
        None => Some(Takes { now: None, then: Vec::new(), begun }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repl::assist::complete::tests::known;

    fn shown(line: &str) -> String {
        takes(line, &known()).map(|takes| takes.all()).unwrap_or_default()
    }

    #[test]
    fn parameters_from_here_on() {
        assert_eq!(shown("math.add("), "a: s32, b: s32");
        assert_eq!(shown("math.add(1"), "a: s32, b: s32");
        assert_eq!(shown("math.add(1, "), "b: s32");
        assert_eq!(shown("math.add(math.add(1, 2), "), "b: s32");
        assert_eq!(shown("math.add(math.add(1, "), "b: s32");
        assert_eq!(shown("Node.run(b, math.add("), "a: s32, b: s32");
        assert_eq!(shown("values.sum([1, 2"), "of: list<u8>");
        assert_eq!(shown("i1.add(1, "), "b: s32");
        assert_eq!(shown("Node.run("), "name, module.f(…)");
        assert_eq!(shown("math.add(1, 2, "), "too many arguments");
        let long = shortened("x".repeat(100));
        assert_eq!(long, format!("{}…", "x".repeat(SHOWN)));
        for none in ["math.add", "math.add(1, 2)", "math.zero(", "no.such(", "1", "help math.add"] {
            assert_eq!(shown(none), "", "{none}");
        }
    }

    #[test]
    fn the_cursor_decides_where_it_stands() {
        let painted = |line: &str, first| takes(line, &known()).unwrap().painted(first);
        assert!(painted("math.add(", true).starts_with('\x1b'), "where the argument will stand");
        assert!(painted("math.add(1", true).starts_with("  "), "behind what is typed");
        assert!(painted("math.add(", false).starts_with("  "), "behind a line of the history");
    }
}
