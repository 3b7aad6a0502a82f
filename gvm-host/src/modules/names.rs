//! The names of a component's types, to shorten signatures for people.
//!
//! In: named types, and signatures with every type in full. Out: signatures with names in place of long types,
//! and the types of these names. Pure. Must not know: how types are read from a module.

use std::collections::{BTreeMap, HashMap};

use crate::base::value::Type;

/// The most characters of a signature that is shown with its types in full, which shows best what to type.
const SPELLED: usize = 72;

/// The most names of one module that are kept, the most that are considered, and the most bytes of the type of
/// one name, so that a hostile module cannot bloat the index.
const MOST: usize = 200;
const CONSIDERED: usize = 2000;
const LONGEST: usize = 4000;

/// How WIT begins the kinds of types that have names.
const KINDS: [&str; 4] = ["record {", "variant {", "enum {", "flags {"];

/// Formats a value in at most this many bytes; the error is its beginning. A small type may take megabytes as
/// text, because it can contain the same type many times.
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

/// Each name, and its type as WIT writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeNames(BTreeMap<String, String>);

impl TypeNames {
    /// Keeps the names that are unique: one name has one type, and one type has one name.
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

    /// Keeps the names whose types occur in one of these texts.
    pub fn keep<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        let texts: Vec<&str> = texts.collect();
        self.0.retain(|_, spelled| texts.iter().any(|text| text.contains(spelled.as_str())));
    }

    /// Creates the names from pairs of a name and its type, as the index or a peer has them.
    pub fn from_spelled(named: impl IntoIterator<Item = (String, String)>) -> TypeNames {
        TypeNames(named.into_iter().collect())
    }

    /// Returns each name and its type as WIT writes it, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, spelled)| (name.as_str(), spelled.as_str()))
    }

    /// Returns the number of names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no names.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a signature, or a part of one, for a person. A long one has names in place of types.
    pub fn shown(&self, text: &str) -> String {
        match self.0.is_empty() || text.chars().count() <= SPELLED {
            true => text.to_owned(),
            false => self.named(text, 0),
        }
    }

    /// Returns the types of the names that [`TypeNames::shown`] uses for these texts, sorted:
    /// `point: record { … }`.
    pub fn explained<'a>(&self, texts: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut used = BTreeMap::new();
        for text in texts.filter(|text| text.chars().count() > SPELLED) {
            // A type contains its inner types in full, and so does the text.
            for (name, spelled) in self.0.iter().filter(|(_, spelled)| text.contains(spelled.as_str())) {
                used.entry(name).or_insert_with(|| format!("{name}: {}", self.named(spelled, 1)));
            }
        }
        used.into_values().collect()
    }

    /// Replaces every type that has a name, from this byte on, by its name.
    fn named(&self, text: &str, from: usize) -> String {
        let (begin, mut rest) = text.split_at(from);
        let mut short = begin.to_owned();
        while let Some(next) = KINDS.iter().filter_map(|kind| rest.find(kind)).min() {
            let (before, at) = rest.split_at(next);
            short += before;
            // Brackets are balanced, so the text of one type is never the beginning of another.
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
    fn long_signatures_have_names_and_short_ones_have_types() {
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
    fn any_text_is_accepted() {
        let (names, _) = shapes();
        for text in
            ["", "record {", "record { record {", "ü record { x: f64, y: f64 } enum {", "variant { dot("]
        {
            let long = format!("{}{text}", " ".repeat(SPELLED));
            assert!(names.shown(&long).len() <= long.len());
        }
    }
}
