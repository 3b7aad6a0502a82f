//! Reads signatures in the index of modules.
//!
//! In: a line such as `ns:pkg/iface@1.0.0#greet: func(name: string) -> string`. Out: its parts. Pure. Must
//! not know: what the types mean.

use gvm_host::names::TypeNames;
use gvm_host::text::inert;

/// The signature of an exported function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// The full name of its interface, if it has one.
    pub interface: Option<&'a str>,
    pub name: &'a str,
    /// Its type, such as `func(a: s32) -> s32`. The index cuts very long types.
    pub ty: &'a str,
    /// The names of the types in its module.
    names: Option<&'a TypeNames>,
}

impl<'a> Signature<'a> {
    /// Reads a line of the index. Returns `None` for a main, and for functions that cannot be called or shown.
    pub fn read(line: &'a str) -> Option<Signature<'a>> {
        let (head, _) = line.split_once(": func(")?;
        let ty = &line[head.len() + 2..];
        let (interface, name) = match head.rsplit_once('#') {
            Some((interface, name)) => (Some(interface), name),
            None => (None, head),
        };
        let is_main = match interface {
            Some(interface) => name == "run" && is_run(interface),
            None => matches!(name, "_start" | "_initialize"),
        };
        // Core modules can have any text as names. Names that could control the terminal are not offered.
        let harmless = !name.is_empty() && !line.chars().any(inert::acts);
        // Functions such as `[method]thing.weight` take resources, which cannot be passed.
        let callable = !is_main && !name.starts_with('[');
        (callable && harmless).then_some(Signature { interface, name, ty, names: None })
    }

    /// Adds the names of types.
    pub fn with(self, names: &'a TypeNames) -> Signature<'a> {
        Signature { names: Some(names), ..self }
    }

    /// Returns a part of the signature, with names in place of long types.
    pub fn shown(&self, part: &str) -> String {
        self.names.map_or_else(|| part.to_owned(), |names| names.shown(part))
    }

    /// Returns the parameters, each as `name: type`.
    pub fn params(&self) -> Vec<&'a str> {
        split(self.ty.strip_prefix("func(").unwrap_or_default())
    }

    /// Returns the short name of its interface, which calls may use too.
    pub fn short_interface(&self) -> Option<&'a str> {
        let bare = self.interface?.split('@').next()?;
        bare.rsplit('/').next()
    }

    /// Returns whether this is a name of its interface: the full name, the name without the version, or the
    /// short name.
    pub fn is_of(&self, wanted: &str) -> bool {
        let Some(full) = self.interface else { return false };
        let bare = full.split('@').next().unwrap_or(full);
        [Some(full), Some(bare), self.short_interface()].contains(&Some(wanted))
    }
}

/// Splits text at its commas, up to the closing bracket. If the index has cut the text, the incomplete last
/// part is left out.
pub fn split(inside: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '(' | '<' | '{' | '[' => depth += 1,
            ')' | '>' | '}' | ']' | ',' if depth == 0 => {
                parts.push(inside[start..at].trim());
                start = at + 1;
                if c != ',' {
                    break;
                }
            }
            ')' | '>' | '}' | ']' => depth -= 1,
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

fn is_run(interface: &str) -> bool {
    interface == "wasi:cli/run" || interface.starts_with("wasi:cli/run@")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_index() {
        let add = Signature::read("add: func(a: s32, b: s32) -> s32").unwrap();
        assert_eq!((add.interface, add.name, add.ty), (None, "add", "func(a: s32, b: s32) -> s32"));
        assert_eq!(add.params(), ["a: s32", "b: s32"]);
        let greet = Signature::read("ns:pkg/my-face@1.0.0#greet: func()").unwrap();
        assert_eq!((greet.interface, greet.name), (Some("ns:pkg/my-face@1.0.0"), "greet"));
        assert!(greet.params().is_empty());
        assert_eq!(greet.short_interface(), Some("my-face"));
        assert!(["ns:pkg/my-face@1.0.0", "ns:pkg/my-face", "my-face"].iter().all(|name| greet.is_of(name)));
        assert!(!greet.is_of("face"));
        assert_eq!(Signature::read("_start: func()"), None);
        assert_eq!(Signature::read("wasi:cli/run@0.2.6#run: func() -> result"), None);
        assert_eq!(Signature::read("n:p/i#[method]thing.weight: func(self: borrow<resource>) -> u32"), None);
        assert_eq!(Signature::read("nonsense"), None);
        for hostile in ["a\x1b[2Jb: func()", "\u{9b}31m: func()", "\u{202e}txt: func()", ": func()"] {
            assert_eq!(Signature::read(hostile), None, "{hostile:?}");
        }
    }

    #[test]
    fn parameters_end_where_types_do() {
        let line =
            "f: func(a: result<list<u8>, string>, b: variant { x(s32), y }, c: tuple<u8, u8>) -> option<u8>";
        assert_eq!(
            Signature::read(line).unwrap().params(),
            ["a: result<list<u8>, string>", "b: variant { x(s32), y }", "c: tuple<u8, u8>"]
        );
        // A type that the index has cut.
        assert_eq!(Signature::read("f: func(a: s32, b: list<…").unwrap().params(), ["a: s32"]);
    }
}
