//! Which exported function a name means.
//!
//! In: what a person typed, the functions there are. Out: one of them, or an error that helps. Pure.
//! Must not know: how functions are called.

use super::inspect::Export;
use super::module::Function;
use crate::error::{Code, Error, Result};
use crate::value::FuncType;

/// How many functions an error lists.
pub(super) const SHOWN: usize = 12;

/// What a name can mean: a function of a loaded module, or of one that was only looked at.
pub(super) trait Named {
    fn interface(&self) -> Option<&str>;
    fn name(&self) -> &str;
    fn ty(&self) -> &FuncType;

    /// The function as WIT writes it, with its interface in front.
    fn signature(&self) -> String {
        match self.interface() {
            Some(interface) => format!("{interface}.{}: {}", self.name(), self.ty()),
            None => format!("{}: {}", self.name(), self.ty()),
        }
    }
}

impl Named for Function {
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
pub(super) fn find_callable(
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

/// Whether `wanted` names the interface: in full, without its version, or by its last word.
fn is_interface(interface: Option<&str>, wanted: &str) -> bool {
    let Some(interface) = interface else { return false };
    let bare = interface.split_once('@').map_or(interface, |(bare, _)| bare);
    let last = bare.rsplit_once('/').map_or(bare, |(_, last)| last);
    interface == wanted || bare == wanted || last == wanted || last == wanted.replace('_', "-")
}

fn not_found(functions: &[impl Named], noun: &str, interface: Option<&str>, name: &str) -> Error {
    let what = match interface {
        Some(interface) => format!("`{noun}` has no function `{name}` in `{interface}`"),
        None => format!("`{noun}` has no function `{name}`"),
    };
    let mut near: Vec<(f64, &_)> =
        functions.iter().map(|function| (strsim::jaro_winkler(function.name(), name), function)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (message, shown) = match near.first() {
        None => (format!("{what}: it exports no functions"), 0),
        Some((score, best)) if *score > 0.75 => (
            format!("{what}; did you mean `{}`?", best.name()),
            near.iter().take_while(|n| n.0 > 0.75).count(),
        ),
        Some(_) => (format!("{what}; it exports:"), SHOWN),
    };
    let mut error = Error::new(Code::FunctionNotFound, message);
    for (_, function) in near.iter().take(shown.min(SHOWN)) {
        error = error.with_context(format!("  {}", function.signature()));
    }
    error
}

fn ambiguous(functions: &[impl Named], noun: &str, found: &[usize]) -> Error {
    let mut error = Error::new(Code::FunctionAmbiguous, "several interfaces have this function; say which:");
    for place in found {
        let function = &functions[*place];
        let interface = function.interface().unwrap_or_default();
        error = error.with_context(format!("  {noun}.\"{interface}\".{}", function.name()));
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
