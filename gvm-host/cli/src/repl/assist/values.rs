//! Completes values.
//!
//! In: the type of a parameter as text, the open brackets before the cursor. Out: words: cases, fields,
//! flags. Pure. Must not know: calls, the typed part of the word.

use wasm_wave::lex::Keyword;

use super::place::Open;
use super::signature::split;

/// A type, parsed one level deep; inner types are text.
enum Shape<'a> {
    Bool,
    Words(Vec<&'a str>),
    Flags(Vec<&'a str>),
    Record(Vec<(&'a str, &'a str)>),
    Variant(Vec<(&'a str, Option<&'a str>)>),
    Option(&'a str),
    Result(Option<&'a str>, Option<&'a str>),
    /// Of any length, or of a fixed one.
    List(&'a str),
    Map(&'a str, &'a str),
    Tuple(Vec<&'a str>),
    Other,
}

fn shape(ty: &str) -> Shape<'_> {
    let within = |begins: &str, ends: char| ty.strip_prefix(begins).filter(|_| ty.ends_with(ends)).map(split);
    if let Some(names) = within("enum {", '}') {
        Shape::Words(names)
    } else if let Some(names) = within("flags {", '}') {
        Shape::Flags(names)
    } else if let Some(fields) = within("record {", '}') {
        Shape::Record(fields.into_iter().filter_map(|field| field.split_once(": ")).collect())
    } else if let Some(cases) = within("variant {", '}') {
        let cases = cases.into_iter().map(|text| match text.split_once('(') {
            Some((name, payload)) => (name, payload.strip_suffix(')')),
            None => (text, None),
        });
        Shape::Variant(cases.collect())
    } else if let Some([inner]) = within("option<", '>').as_deref() {
        Shape::Option(inner)
    } else if let Some(both) = within("result<", '>') {
        let part = |at: usize| both.get(at).copied().filter(|ty| *ty != "_");
        Shape::Result(part(0), part(1))
    } else if let Some([element] | [element, _]) = within("list<", '>').as_deref() {
        Shape::List(element)
    } else if let Some([key, value]) = within("map<", '>').as_deref() {
        Shape::Map(key, value)
    } else if let Some(types) = within("tuple<", '>') {
        Shape::Tuple(types)
    } else {
        match ty {
            "bool" => Shape::Bool,
            "result" => Shape::Result(None, None),
            _ => Shape::Other,
        }
    }
}

/// Returns the words that can follow at the end of the text, each with a description. `open` are the open
/// brackets within the value.
pub fn words(ty: &str, open: &[Open<'_>], text: &str) -> Vec<(String, String)> {
    let Some((bracket, inner)) = open.split_first() else { return beginnings(ty) };
    let case = bracket.callee.parts.first().copied();
    let into = |ty: Option<&str>| ty.map(|ty| words(ty, inner, text)).unwrap_or_default();
    match (shape(ty), bracket.bracket, case) {
        (Shape::List(element), '[', _) => into(Some(element)),
        // An entry of a map is written as a pair.
        (Shape::Map(key, value), '[', _) => words(&format!("tuple<{key}, {value}>"), inner, text),
        (Shape::Tuple(types), '(', None) => into(types.get(bracket.arg).copied()),
        (Shape::Flags(names), '{', _) => {
            names.into_iter().map(|name| (name.to_owned(), "a flag".to_owned())).collect()
        }
        (Shape::Record(fields), '{', _) => {
            let typed = text.get(bracket.since..).unwrap_or_default();
            match typed.split_once(':') {
                Some((label, _)) => {
                    into(fields.iter().find(|(name, _)| *name == label.trim()).map(|(_, ty)| *ty))
                }
                None => fields.into_iter().map(|(name, ty)| (format!("{name}: "), ty.to_owned())).collect(),
            }
        }
        (Shape::Variant(cases), '(', Some(case)) => {
            let case = case.trim_start_matches('%');
            into(cases.into_iter().find(|(name, _)| *name == case).and_then(|(_, ty)| ty))
        }
        (Shape::Option(ty), '(', Some("some")) | (Shape::Result(Some(ty), _), '(', Some("ok")) => {
            into(Some(ty))
        }
        (Shape::Result(_, err), '(', Some("err")) => into(err),
        // `some(…)` and `ok(…)` can be omitted.
        (Shape::Option(ty) | Shape::Result(Some(ty), _), ..) => words(ty, open, text),
        _ => Vec::new(),
    }
}

/// Returns a case as it is written: with a `%` if it is also a keyword of WAVE (`none`, `inf`, …).
fn label(name: &str) -> String {
    match Keyword::decode(name) {
        Some(_) => format!("%{name}"),
        None => name.to_owned(),
    }
}

fn beginnings(ty: &str) -> Vec<(String, String)> {
    let case = |name: &str, payload: Option<&str>| match payload {
        Some(payload) => (format!("{name}("), format!("({payload})")),
        None => (name.to_owned(), String::new()),
    };
    let word = |word: &str| (word.to_owned(), String::new());
    match shape(ty) {
        Shape::Bool => vec![word("true"), word("false")],
        Shape::Words(names) => names.into_iter().map(|name| word(&label(name))).collect(),
        Shape::Variant(cases) => {
            cases.into_iter().map(|(name, payload)| case(&label(name), payload)).collect()
        }
        Shape::Option(inner) => vec![word("none"), case("some", Some(inner))],
        Shape::Result(ok, err) => vec![case("ok", ok), case("err", err)],
        Shape::Record(_) | Shape::Flags(_) => vec![("{".to_owned(), ty.to_owned())],
        Shape::List(_) | Shape::Map(..) => vec![("[".to_owned(), ty.to_owned())],
        Shape::Tuple(_) => vec![("(".to_owned(), ty.to_owned())],
        Shape::Other => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::*;

    /// The words for an argument of this type that is typed so far.
    fn offered(ty: &str, typed: &str) -> Vec<String> {
        let text = format!("m.f({typed}");
        let place = Place::at_end(&text);
        words(ty, &place.open[1..], &text).into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn of_every_type() {
        assert_eq!(offered("bool", ""), ["true", "false"]);
        assert_eq!(offered("enum { red, green }", ""), ["red", "green"]);
        assert_eq!(offered("flags { read, write }", ""), ["{"]);
        assert_eq!(offered("flags { read, write }", "{read, "), ["read", "write"]);
        let record = "record { name: string, tone: option<enum { red, green }> }";
        assert_eq!(offered(record, "{"), ["name: ", "tone: "]);
        assert_eq!(offered(record, "{name: \"a,b\", "), ["name: ", "tone: "]);
        assert_eq!(offered(record, "{tone: "), ["none", "some("]);
        assert_eq!(offered(record, "{tone: some("), ["red", "green"]);
        assert_eq!(offered(&format!("list<{record}>"), "[{name: \"x\"}, {tone: some("), ["red", "green"]);
        assert_eq!(offered("list<bool, 4>", "[true, "), ["true", "false"]);
        let map = "map<enum { one, two }, option<bool>>";
        assert_eq!(offered(map, ""), ["["]);
        assert_eq!(offered(map, "["), ["("]);
        assert_eq!(offered(map, "[(one, true), ("), ["one", "two"]);
        assert_eq!(offered(map, "[(one, "), ["none", "some("]);
        let variant = "variant { none, line(tuple<bool, record { x: f64 }>), many(list<u8>) }";
        assert_eq!(offered(variant, ""), ["%none", "line(", "many("], "a keyword is marked as a case");
        assert_eq!(offered("variant { some(bool), inf }", "%some("), ["true", "false"]);
        assert_eq!(offered("enum { ok, char }", ""), ["%ok", "char"]);
        assert_eq!(offered(variant, "line((true, {"), ["x: "]);
        assert_eq!(offered("result<bool, enum { no }>", "err("), ["no"]);
        assert_eq!(offered("result<_, string>", ""), ["ok", "err("]);
        assert_eq!(offered("result", ""), ["ok", "err"]);
        assert_eq!(offered("option<record { on: bool }>", "{on: "), ["true", "false"], "some( is left out");
        assert_eq!(offered("list<record { a: u8, …", "[{"), [""; 0], "a type whose end is left out");
        assert_eq!(offered("string", ""), [""; 0]);
        assert_eq!(offered("u8", "("), [""; 0]);
    }
}
