//! Finds the exported function that a name means.
//!
//! In: the name that a person typed, the functions of a module. Out: one of them, or an error with similar
//! ones. Pure. Must not know: how functions are called.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use foldhash::fast::RandomState;

use crate::base::error::{Code, Error, Result};
use crate::base::inert;
use crate::base::near;
use crate::base::value::FuncType;
use crate::modules::inspect::Export;

/// The most functions that an error lists.
pub(crate) const SHOWN: usize = 12;

/// The most functions with similar names that an error lists.
const NEAR: usize = 4;

/// The least similarity of such a name, from 0 to 1.
const LIKE: f64 = 0.75;

/// The most characters of one function in an error that lists several.
const WIDE: usize = 120;

/// A function that a name can mean: of a loaded module, or of an inspected one.
pub(crate) trait Named {
    fn interface(&self) -> Option<&str>;
    fn name(&self) -> &str;
    fn ty(&self) -> &FuncType;

    /// Returns the function as WIT writes it, with its interface in front.
    fn signature(&self) -> String {
        let signature = match self.interface() {
            Some(interface) => format!("{interface}.{}: {}", self.name(), self.ty()),
            None => format!("{}: {}", self.name(), self.ty()),
        };
        // The names in core modules may contain any characters.
        inert::line(&signature).into_owned()
    }
}

impl Named for Export {
    fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn ty(&self) -> &FuncType {
        &self.ty
    }
}

/// Returns the indices of the functions that [`find_callable`] finds by their exact name alone.
pub(crate) fn by_name(functions: &[impl Named]) -> HashMap<String, usize, RandomState> {
    // `None`: several interfaces have a function with this name.
    let mut found: HashMap<&str, Option<usize>> = HashMap::with_capacity(functions.len());
    for (place, function) in functions.iter().enumerate() {
        match found.entry(function.name()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Some(place));
            }
            // A function of the root hides functions of interfaces.
            Entry::Occupied(mut taken) => match (function.interface(), *taken.get()) {
                (None, _) => {
                    taken.insert(Some(place));
                }
                (Some(_), Some(root)) if functions[root].interface().is_none() => {}
                (Some(_), _) => {
                    taken.insert(None);
                }
            },
        }
    }
    let callable = |place: &usize| functions[*place].ty().unsupported().is_none();
    let known = found.into_iter().filter_map(|(name, place)| {
        let place = place.filter(callable)?;
        Some((name.to_owned(), place))
    });
    known.collect()
}

/// Returns the index of the function with this name, if all its types can be passed.
pub(crate) fn find_callable(
    functions: &[impl Named],
    noun: &str,
    interface: Option<&str>,
    name: &str,
) -> Result<usize> {
    let place = find(functions, noun, interface, name)?;
    let found = &functions[place];
    match found.ty().unsupported() {
        None => Ok(place),
        Some(part) => {
            let message = format!(
                "the signature of `{}` has the type `{part}`, which cannot be passed yet",
                found.name()
            );
            let error =
                Error::new(Code::UnsupportedType, message).with_context(format!("  {}", found.signature()));
            Err(match part.starts_with("stream") || part.starts_with("future") {
                true => error.with_help(
                    "use streams and futures inside a component and with WASI; pass a list, or standard input and output, \
                     to and from a call",
                ),
                false => error,
            })
        }
    }
}

fn find(functions: &[impl Named], noun: &str, interface: Option<&str>, name: &str) -> Result<usize> {
    let kebab = name.replace('_', "-");
    let named = |place: usize, name: &str| {
        let function = &functions[place];
        function.name() == name && interface.is_none_or(|wanted| is_interface(function.interface(), wanted))
    };
    let candidates = |name: &str| -> Vec<usize> {
        let found: Vec<usize> = (0..functions.len()).filter(|place| named(*place, name)).collect();
        // A function of the root hides functions of interfaces.
        match found.iter().find(|place| interface.is_none() && functions[**place].interface().is_none()) {
            Some(root) => vec![*root],
            None => found,
        }
    };
    let mut found = candidates(name);
    if found.is_empty() && kebab != name {
        found = candidates(&kebab);
    }
    match found[..] {
        [place] => Ok(place),
        [] => Err(not_found(functions, noun, interface, &kebab)),
        _ => Err(ambiguous(functions, noun, &found)),
    }
}

/// Returns the name of an interface without its package and version.
fn last_word(interface: &str) -> &str {
    let bare = interface.split_once('@').map_or(interface, |(bare, _)| bare);
    bare.rsplit_once('/').map_or(bare, |(_, last)| last)
}

/// Returns whether `wanted` names the interface: in full, without its version, or by its last part.
pub(crate) fn is_interface(interface: Option<&str>, wanted: &str) -> bool {
    let Some(interface) = interface else { return false };
    let bare = interface.split_once('@').map_or(interface, |(bare, _)| bare);
    let last = last_word(interface);
    interface == wanted || bare == wanted || last == wanted || last == wanted.replace('_', "-")
}

fn not_found(functions: &[impl Named], noun: &str, interface: Option<&str>, name: &str) -> Error {
    let within: Vec<&_> = functions
        .iter()
        .filter(|function| interface.is_none_or(|wanted| is_interface(function.interface(), wanted)))
        .collect();
    if let (Some(interface), true, false) = (interface, within.is_empty(), functions.is_empty()) {
        return no_interface(functions, noun, interface);
    }
    let what = match interface {
        Some(interface) => format!("`{noun}` has no function `{name}` in `{interface}`"),
        None => format!("`{noun}` has no function `{name}`"),
    };
    let mut near: Vec<(f64, &_)> = within
        .iter()
        .map(|function| (strsim::jaro_winkler(function.name(), name), *function))
        .filter(|(like, _)| *like > LIKE)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.truncate(NEAR);
    let (message, shown) = match near.first() {
        Some((_, best)) => (
            format!("{what}: did you mean `{}`?", best.name()),
            near.iter().map(|(_, function)| function.signature()).collect(),
        ),
        None if within.is_empty() => (format!("{what}; it exports no functions"), Vec::new()),
        None => {
            (format!("{what}; it exports:"), within.iter().map(|function| function.signature()).collect())
        }
    };
    listed(Error::new(Code::FunctionNotFound, message), shown)
}

fn no_interface(functions: &[impl Named], noun: &str, wanted: &str) -> Error {
    let mut all: Vec<&str> = functions.iter().filter_map(Named::interface).collect();
    all.dedup();
    let mut names: Vec<&str> = all.iter().map(|name| last_word(name)).collect();
    if wanted.contains(['/', ':']) {
        names.clone_from(&all);
    }
    let near = near::nearest(wanted, names).first().map(|near| format!(": did you mean `{near}`?"));
    let said = match (near, all.is_empty()) {
        (Some(near), _) => near,
        (None, true) => "; none of its functions is in an interface".to_owned(),
        (None, false) => "; it has:".to_owned(),
    };
    let error = Error::new(Code::FunctionNotFound, format!("`{noun}` has no interface `{wanted}`{said}"));
    listed(error, all.into_iter().map(|name| inert::line(name).into_owned()).collect())
}

/// Adds lines to an error: at most [`SHOWN`], and shortened if there are several.
fn listed(mut error: Error, lines: Vec<String>) -> Error {
    let more = lines.len().saturating_sub(SHOWN);
    let alone = lines.len() == 1;
    for mut line in lines.into_iter().take(SHOWN) {
        if let (false, Some((end, _))) = (alone, line.char_indices().nth(WIDE)) {
            line.truncate(end);
            line.push('…');
        }
        error = error.with_context(format!("  {line}"));
    }
    match more {
        0 => error,
        more => error
            .with_context(format!("  … and {more} more"))
            .with_help("run `gvm inspect` on the module to see all of them"),
    }
}

fn ambiguous(functions: &[impl Named], noun: &str, found: &[usize]) -> Error {
    let name = found.first().map_or("", |place| functions[*place].name());
    let message = format!("several interfaces of `{noun}` have a function `{name}`:");
    let mut error =
        Error::new(Code::FunctionAmbiguous, message).with_help("call the function by one of these names");
    for place in found {
        let function = &functions[*place];
        let interface = function.interface().unwrap_or_default();
        error = error.with_context(inert::line(&format!("  {noun}.\"{interface}\".{}", function.name())));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::value::{Field, Type};

    #[test]
    fn the_map_of_names_agrees_with_the_search() {
        struct One(Option<&'static str>, &'static str, FuncType);
        impl Named for One {
            fn interface(&self) -> Option<&str> {
                self.0
            }
            fn name(&self) -> &str {
                self.1
            }
            fn ty(&self) -> &FuncType {
                &self.2
            }
        }
        let of = |interface, name, result| One(interface, name, FuncType { params: [].into(), result });
        let own = Type::Unsupported("own<file>".into());
        let takes = [Field { name: "a".into(), ty: own.clone() }].into();
        let functions = [
            of(None, "root", None),
            of(Some("a:b/c"), "root", None),
            of(Some("a:b/c"), "late-root", None),
            of(Some("a:b/d"), "late-root", None),
            of(None, "late-root", None),
            of(Some("a:b/c"), "both", None),
            of(Some("a:b/d"), "both", Some(own.clone())),
            of(Some("a:b/e"), "both", None),
            of(Some("a:b/c"), "once", Some(Type::U8)),
            of(None, "owns", Some(own)),
            One(None, "takes", FuncType { params: takes, result: None }),
            of(None, "owns-below", None),
        ];
        let known = by_name(&functions);
        for name in ["root", "late-root", "both", "once", "owns", "takes", "owns-below"] {
            assert_eq!(known.get(name).copied(), find_callable(&functions, "m", None, name).ok(), "{name}");
        }
        assert_eq!(known.len(), 4);
    }

    #[test]
    fn interfaces_match_by_every_name() {
        let full = Some("ns:pkg/my-face@1.0.0");
        for wanted in ["ns:pkg/my-face@1.0.0", "ns:pkg/my-face", "my-face", "my_face"] {
            assert!(is_interface(full, wanted), "{wanted}");
        }
        assert!(!is_interface(full, "face"));
        assert!(!is_interface(None, "my-face"));
    }
}
