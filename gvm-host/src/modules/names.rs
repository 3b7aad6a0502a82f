//! The names that a component gives its types, for signatures that people read.
//!
//! In: named types; signatures with every type spelled out. Out: the same with names in place of what is
//! long, and what the names stand for. Pure. Must not know: where either comes from.

use std::collections::{BTreeMap, HashMap};

use crate::base::value::Type;

/// The most characters of a signature that is shown with its types spelled out, which tells best what to type.
const SPELLED: usize = 72;

/// The most names kept of one module, those looked at, and the most bytes of what one stands for: a hostile module
/// must not bloat the index.
const MOST: usize = 200;
const CONSIDERED: usize = 2000;
const LONGEST: usize = 4000;

/// The kinds of types that have names, as WIT begins them.
const KINDS: [&str; 4] = ["record {", "variant {", "enum {", "flags {"];

/// What is written, where that takes no more bytes than these; else its beginning. A type of a few bytes may take
/// megabytes to write, for what it is made of may be shared.
pub fn at_most(most: usize, what: &impl std::fmt::Display) -> Result<String, String> {
    struct Bounded(String, usize);
    impl std::fmt::Write for Bounded {
        fn write_str(&mut self, piece: &str) -> std::fmt::Result {
            let fits = piece.floor_char_boundary(self.1.saturating_sub(self.0.len()));
            self.0.push_str(&piece[..fits]);
            if fits == piece.len() { Ok(()) } else { Err(std::fmt::Error) }
        }
    }
    let mut written = Bounded(String::new(), most);
    match std::fmt::write(&mut written, format_args!("{what}")) {
        Ok(()) => Ok(written.0),
        Err(_) => Err(written.0),
    }
}

/// Each name, and the type that it stands for as WIT writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeNames(BTreeMap<String, String>);

impl TypeNames {
    /// The names that tell types apart: not one that two types have, nor one of two of a type.
    pub fn new(named: Vec<(String, Type)>) -> TypeNames {
        let structured =
            |ty: &Type| matches!(ty, Type::Record(_) | Type::Variant(_) | Type::Enum(_) | Type::Flags(_));
        let named = named.into_iter().filter(|(_, ty)| structured(ty)).take(CONSIDERED);
        let spelled = named.filter_map(|(name, ty)| Some((name, at_most(LONGEST, &ty).ok()?)));
        let mut pairs: Vec<(String, String)> = spelled.collect();
        pairs.sort();
        pairs.dedup();
        let (mut of_name, mut of_text) = (HashMap::<&str, usize>::new(), HashMap::<&str, usize>::new());
        for (name, text) in &pairs {
            *of_name.entry(name).or_default() += 1;
            *of_text.entry(text).or_default() += 1;
        }
        let clear =
            |(name, text): &&(String, String)| of_name[name.as_str()] == 1 && of_text[text.as_str()] == 1;
        TypeNames(pairs.iter().filter(clear).take(MOST).cloned().collect())
    }

    /// Keeps the names that one of these texts, or a type that they name, mentions.
    pub fn keep<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        let texts: Vec<&str> = texts.collect();
        self.0.retain(|_, spelled| texts.iter().any(|text| text.contains(spelled.as_str())));
    }

    /// Names and the types that they stand for, as the index or a peer has them.
    pub fn from_spelled(named: impl IntoIterator<Item = (String, String)>) -> TypeNames {
        TypeNames(named.into_iter().collect())
    }

    /// Each name and the type that it stands for, as WIT writes it, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, spelled)| (name.as_str(), spelled.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A signature, or a part of one, for a person: with names where it would be long.
    pub fn shown(&self, text: &str) -> String {
        match self.0.is_empty() || text.chars().count() <= SPELLED {
            true => text.to_owned(),
            false => self.named(text, 0),
        }
    }

    /// What the names in these texts, as [`TypeNames::shown`] gave them, stand for, sorted: `point: record { … }`.
    pub fn explained<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut used = BTreeMap::new();
        for text in texts.filter(|text| text.chars().count() > SPELLED) {
            // What stands in a type is spelled out in it, and so in the text.
            for (name, spelled) in self.0.iter().filter(|(_, spelled)| text.contains(spelled.as_str())) {
                used.entry(name).or_insert_with(|| format!("{name}: {}", self.named(spelled, 1)));
            }
        }
        used.into_values().collect()
    }

    /// The text with every type that has a name, from this byte on, replaced by it.
    fn named(&self, text: &str, from: usize) -> String {
        let (begin, mut rest) = text.split_at(from);
        let mut short = begin.to_owned();
        while let Some(next) = KINDS.iter().filter_map(|kind| rest.find(kind)).min() {
            let (before, at) = rest.split_at(next);
            short += before;
            // Brackets are balanced, so no type begins another one's text.
            let known = self.0.iter().find(|(_, spelled)| at.starts_with(spelled.as_str()));
            let taken = match known {
                Some((name, spelled)) => {
                    short += name;
                    spelled.len()
                }
                None => {
                    short += &at[..1];
                    1
                }
            };
            rest = &at[taken..];
        }
        short + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::value::{Case, Field};

    fn record(fields: &[(&str, Type)]) -> Type {
        Type::Record(fields.iter().map(|(name, ty)| Field { name: (*name).into(), ty: ty.clone() }).collect())
    }

    fn shapes() -> (TypeNames, Type) {
        let point = record(&[("x", Type::F64), ("y", Type::F64)]);
        let disc = record(&[("centre", point.clone()), ("radius", Type::F64)]);
        let cases = [("dot", &point), ("disc", &disc)];
        let shape =
            Type::Variant(cases.map(|(name, ty)| Case { name: name.into(), ty: Some(ty.clone()) }).into());
        let named = [("point", &point), ("disc", &disc), ("shape", &shape), ("count", &Type::U32)];
        (TypeNames::new(named.map(|(name, ty)| (name.to_owned(), ty.clone())).into()), shape)
    }

    #[test]
    fn long_signatures_have_names_and_short_ones_say_all() {
        let (names, shape) = shapes();
        let bounds = format!("bounds: func(of: list<{shape}>) -> option<{}>", record(&[("low", Type::F64)]));
        assert_eq!(names.shown(&bounds), "bounds: func(of: list<shape>) -> option<record { low: f64 }>");
        assert_eq!(
            names.explained([bounds.as_str()].into_iter()),
            [
                "disc: record { centre: point, radius: f64 }",
                "point: record { x: f64, y: f64 }",
                "shape: variant { dot(point), disc(disc) }",
            ]
        );
        let short = "far: func(p: record { x: f64, y: f64 }) -> f64";
        assert_eq!(names.shown(short), short);
        assert!(names.explained([short].into_iter()).is_empty());
    }

    #[test]
    fn names_that_mislead_are_not_used() {
        let (one, two) = (record(&[("a", Type::U8)]), record(&[("b", Type::U8)]));
        let named =
            [("config", &one), ("config", &two), ("left", &one), ("bytes", &Type::U8), ("alone", &two)];
        let names = TypeNames::new(named.map(|(name, ty)| (name.to_owned(), ty.clone())).into());
        assert!(names.is_empty(), "{names:?}");
        let (mut names, _) = shapes();
        names.keep(["f: func(p: record { x: f64, y: f64 })"].into_iter());
        assert_eq!(names.0.keys().collect::<Vec<_>>(), ["point"]);
        names.keep(["f: func()"].into_iter());
        assert!(names.is_empty());
    }

    #[test]
    fn any_text_is_taken() {
        let (names, _) = shapes();
        for text in
            ["", "record {", "record { record {", "ü record { x: f64, y: f64 } enum {", "variant { dot("]
        {
            let long = format!("{}{text}", " ".repeat(SPELLED));
            assert!(names.shown(&long).len() <= long.len());
        }
    }
}
