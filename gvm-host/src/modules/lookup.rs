//! Which exported function a name means.
//!
//! In: what a person typed, the functions there are. Out: one of them, or an error that helps. Pure.
//! Must not know: how functions are called.

use crate::base::error::{Code, Error, Result};
use crate::base::inert;
use crate::base::near;
use crate::base::value::FuncType;
use crate::modules::inspect::Export;

/// How many functions an error lists.
pub(crate) const SHOWN: usize = 12;

/// How many of them where some are nearly called so.
const NEAR: usize = 4;

/// How like its name has to be for that, of 1.
const LIKE: f64 = 0.75;

/// How many characters of a function an error shows that lists several.
const WIDE: usize = 120;

/// What a name can mean: a function of a loaded module, or of one that was only looked at.
pub(crate) trait Named {
    fn interface(&self) -> Option<&str>;
    fn name(&self) -> &str;
    fn ty(&self) -> &FuncType;

    /// The function as WIT writes it, with its interface in front.
    fn signature(&self) -> String {
        let signature = match self.interface() {
            Some(interface) => format!("{interface}.{}: {}", self.name(), self.ty()),
            None => format!("{}: {}", self.name(), self.ty()),
        };
        // Names of core modules are whatever their authors wrote.
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

/// The place of the function that is meant, whose types can all cross.
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
        Some(part) => Err(Error::new(
            Code::UnsupportedType,
            format!("`{}` has the type `{part}`, which cannot cross in this version", found.name()),
        )
        .with_context(format!("  {}", found.signature()))),
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
        // The root's own function hides those of interfaces.
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

/// An interface's name without its package and version.
fn last_word(interface: &str) -> &str {
    let bare = interface.split_once('@').map_or(interface, |(bare, _)| bare);
    bare.rsplit_once('/').map_or(bare, |(_, last)| last)
}

/// Whether `wanted` names the interface: in full, without its version, or by its last word.
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
            format!("{what}; did you mean `{}`?", best.name()),
            near.iter().map(|(_, function)| function.signature()).collect(),
        ),
        None if within.is_empty() => (format!("{what}: it exports no functions"), Vec::new()),
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
        (None, true) => ": its functions stand in none".to_owned(),
        (None, false) => "; there are:".to_owned(),
    };
    let error = Error::new(Code::FunctionNotFound, format!("`{noun}` has no interface `{wanted}`{said}"));
    listed(error, all.into_iter().map(|name| inert::line(name).into_owned()).collect())
}

/// The error with lines below it: few, and none of them endless.
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
    if more > 0 { error.with_context(format!("  … and {more} more: see `help`")) } else { error }
}

fn ambiguous(functions: &[impl Named], noun: &str, found: &[usize]) -> Error {
    let mut error = Error::new(Code::FunctionAmbiguous, "several interfaces have this function; say which:");
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

    #[test]
    fn interfaces_by_every_name() {
        let full = Some("ns:pkg/my-face@1.0.0");
        for wanted in ["ns:pkg/my-face@1.0.0", "ns:pkg/my-face", "my-face", "my_face"] {
            assert!(is_interface(full, wanted), "{wanted}");
        }
        assert!(!is_interface(full, "face"));
        assert!(!is_interface(None, "my-face"));
    }
}
