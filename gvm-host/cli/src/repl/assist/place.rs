//! Finds the place of the cursor in a statement.
//!
//! In: the line up to the cursor. Out: the name that is being typed, and the calls around it. Pure. Must not
//! know: which names exist.

use super::lex::{Kind, tokens};

/// The place of the cursor.
#[derive(Debug, Default, PartialEq)]
pub struct Place<'a> {
    /// The open brackets, the innermost last.
    pub open: Vec<Open<'a>>,
    /// The name that ends at the cursor, if there is one.
    pub path: Option<Path<'a>>,
    /// The version that ends at the cursor, if there is one.
    pub pin: Option<Pin<'a>>,
    /// Whether the line asks for help.
    pub help: bool,
}

/// A version that is being typed.
#[derive(Debug, PartialEq)]
pub struct Pin<'a> {
    pub module: &'a str,
    /// The typed part of the version, and where it begins.
    pub partial: &'a str,
    pub start: usize,
}

/// An open bracket.
#[derive(Debug, Default, PartialEq)]
pub struct Open<'a> {
    pub bracket: char,
    /// The name before it: of a function or a case; empty for a tuple, a list or a record.
    pub callee: Path<'a>,
    /// The number of commas in it, so far.
    pub arg: usize,
    /// Where the current argument begins: after the bracket, or after the last comma.
    pub since: usize,
}

/// A name with dots between its parts: `math@1.2.3.add`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path<'a> {
    /// The complete parts, without the one that is being typed.
    pub parts: Vec<&'a str>,
    pub version: Option<&'a str>,
    /// The typed part of the last name, and where it begins.
    pub partial: &'a str,
    pub start: usize,
}

impl<'a> Place<'a> {
    /// Returns the place at the end of this text.
    pub fn at_end(text: &'a str) -> Place<'a> {
        let mut place = Place::default();
        // The current name: its parts, and whether the last token was a dot.
        let mut path = Path::default();
        let mut dot = false;
        let mut ended = true;
        for token in tokens(text) {
            let shown = &text[token.span.clone()];
            match token.kind {
                Kind::Word | Kind::Quoted if dot => {
                    path.parts.push(unquoted(shown));
                    (path.start, dot, ended) = (token.span.start, false, false);
                }
                Kind::Word => {
                    place.help |= place.open.is_empty() && path.parts == ["help"];
                    path = Path { parts: vec![shown], start: token.span.start, ..Path::default() };
                    ended = false;
                }
                Kind::Version if !path.parts.is_empty() => path.version = Some(unquoted(&shown[1..])),
                Kind::Mark('.') if !path.parts.is_empty() => dot = true,
                Kind::Mark('(') if !ended && !dot => {
                    place.open.push(Open { bracket: '(', callee: path, arg: 0, since: token.span.end });
                    (path, ended) = (Path::default(), true);
                }
                Kind::Mark(c) => {
                    match c {
                        '(' | '[' | '{' => {
                            place.open.push(Open { bracket: c, since: token.span.end, ..Open::default() });
                        }
                        ')' | ']' | '}' => drop(place.open.pop()),
                        ',' => {
                            if let Some(open) = place.open.last_mut() {
                                (open.arg, open.since) = (open.arg + 1, token.span.end);
                            }
                        }
                        _ => {}
                    }
                    // After a value, a name can follow only after a mark.
                    let value = matches!(c, ')' | ']' | '}');
                    (path, dot, ended) = (Path::default(), false, true);
                    if value {
                        place.path = None;
                        continue;
                    }
                }
                Kind::Space => {
                    place.help |= place.open.is_empty() && path.parts == ["help"];
                    ended = true;
                }
                Kind::Comment | Kind::Quoted | Kind::Number | Kind::Version => {
                    (path, dot, ended) = (Path::default(), false, true);
                }
            }
            let pinned = token.kind == Kind::Version && path.parts.len() == 1;
            place.pin = pinned.then(|| Pin {
                module: path.parts[0],
                partial: &shown[1..],
                start: token.span.start + 1,
            });
            place.path = match token.kind {
                Kind::Word if !dot => Some(being_typed(&path)),
                // The full name of an interface, still without its closing quote.
                Kind::Quoted if path.parts.len() == 2 && !is_closed(shown) => {
                    path.parts.pop();
                    Some(Path { partial: shown, start: token.span.start, ..path.clone() })
                }
                Kind::Mark('.') if dot => Some(Path { partial: "", start: token.span.end, ..path.clone() }),
                Kind::Mark(_) => Some(Path { start: token.span.end, ..Path::default() }),
                // After a space, a name can begin, unless a value came before it.
                Kind::Space if !dot && path.parts.is_empty() && !after_value(text, token.span.start) => {
                    Some(Path { start: token.span.end, ..Path::default() })
                }
                Kind::Space if place.help => Some(Path { start: token.span.end, ..Path::default() }),
                _ => None,
            };
        }
        if text.is_empty() {
            place.path = Some(Path::default());
        }
        place
    }

    /// Returns the innermost open call.
    pub fn call(&self) -> Option<&Open<'a>> {
        self.open.iter().rev().find(|open| open.callee.parts.len() > 1)
    }
}

/// Returns the path with its last part as the one that is being typed.
fn being_typed<'a>(path: &Path<'a>) -> Path<'a> {
    let mut typed = path.clone();
    typed.partial = typed.parts.pop().unwrap_or_default();
    typed
}

fn after_value(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    before.is_some_and(|c| !"([{,:".contains(c))
}

fn is_closed(quoted: &str) -> bool {
    quoted.len() > 1 && quoted.ends_with('"')
}

fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').unwrap_or(text);
    inner.strip_suffix('"').unwrap_or(inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the parts, the typed part of the last one, and the calls around it, each with the number of
    /// its argument.
    fn at(text: &str) -> (Vec<&str>, &str, Vec<(String, usize)>) {
        let place = Place::at_end(text);
        let open = place.open.iter().map(|open| (open.callee.parts.join("."), open.arg)).collect();
        let path = place.path.unwrap_or_else(|| panic!("{text:?} ends in no name"));
        assert_eq!(&text[path.start..], path.partial, "{text:?}");
        (path.parts, path.partial, open)
    }

    #[test]
    fn names() {
        assert_eq!(at(""), (vec![], "", vec![]));
        assert_eq!(at("  ma"), (vec![], "ma", vec![]));
        assert_eq!(at("math."), (vec!["math"], "", vec![]));
        assert_eq!(at("math.left.si"), (vec!["math", "left"], "si", vec![]));
        assert_eq!(at("math@1.2.3.ad"), (vec!["math"], "ad", vec![]));
        assert_eq!(at("m.\"a:b/c@1.0.0\".f"), (vec!["m", "a:b/c@1.0.0"], "f", vec![]));
        let pinned = Place::at_end("math@\"1.0.0-rc.1\".ad").path.unwrap();
        assert_eq!(pinned.version, Some("1.0.0-rc.1"));
        assert_eq!(at("m.\"a:b/c@1"), (vec!["m"], "\"a:b/c@1", vec![]));
        let pin = Place::at_end("math.add(math@1.0").pin.unwrap();
        assert_eq!((pin.module, pin.partial, pin.start), ("math", "1.0", 14));
        assert_eq!(Place::at_end("math@1.0.0.").pin, None);
    }

    #[test]
    fn calls() {
        let run = |arg| ("Node.run".to_owned(), arg);
        let add = |arg| ("math.add".to_owned(), arg);
        assert_eq!(at("Node.run("), (vec![], "", vec![run(0)]));
        assert_eq!(at("Node.run(node-8399, ma"), (vec![], "ma", vec![run(1)]));
        assert_eq!(at("Node.run(b, math.add(1,"), (vec![], "", vec![run(1), add(1)]));
        assert_eq!(at("Node.run(node-8399@lap"), (vec![], "node-8399@lap", vec![run(0)]));
        assert_eq!(at("Node.run(b@pi, ma"), (vec![], "ma", vec![run(1)]));
        assert_eq!(at("math.add(math.add(1,2), "), (vec![], "", vec![add(1)]));
        assert_eq!(
            at("math.add([1, {a: (2, "),
            (vec![], "", vec![add(0), (String::new(), 1), (String::new(), 0), (String::new(), 1)])
        );
        assert_eq!(Place::at_end("math.add(some(").call().unwrap().callee.parts, ["math", "add"]);
        assert!(Place::at_end("help mat").help);
        assert_eq!(at("help "), (vec![], "", vec![]));
    }

    #[test]
    fn values_are_no_names() {
        for text in ["math.add(1", "math.add(\"a", "math.add(1)", "math ", "exit ", "# ma", "math.add(1) "] {
            assert_eq!(Place::at_end(text).path, None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[-a1.@\"'#/(){},: é\\\\]*") {
            let place = Place::at_end(&text);
            if let Some(path) = place.path {
                prop_assert_eq!(&text[path.start..], path.partial);
            }
        }
    }
}
