//! Generates the files with error codes.
//!
//! In: `schema/codes.toml`. Out: the Rust enum, the enum of the schema, the Python classes, the list in
//! `docs/errors.md`. Must not know: what the codes are used for.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::Deserialize;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The marks at the beginning and at the end of a generated part of a file.
const BEGIN: &str = "BEGIN GENERATED from schema/codes.toml";
const END: &str = "END GENERATED";

#[derive(Deserialize)]
struct File {
    code: Vec<Code>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    name: String,
    summary: String,
    about: Option<String>,
    fix: String,
    #[serde(default)]
    python: Vec<String>,
}

impl Code {
    /// Returns `GPMD_NOT_RUNNING` as `GpmdNotRunning`.
    fn camel(&self) -> String {
        let word = |word: &str| {
            let (first, rest) = word.split_at(1);
            first.to_owned() + &rest.to_ascii_lowercase()
        };
        self.name.split('_').map(word).collect()
    }

    /// Returns `GPMD_NOT_RUNNING` as `gpmdNotRunning`.
    fn lower_camel(&self) -> String {
        let camel = self.camel();
        let (first, rest) = camel.split_at(1);
        first.to_ascii_lowercase() + rest
    }
}

/// Writes every file that contains the codes.
pub fn generate(root: &Path) -> Result<()> {
    let codes = toml::from_str::<File>(&fs::read_to_string(root.join("schema/codes.toml"))?)?.code;
    fs::write(root.join("gvm-host/src/base/code.rs"), rust(&codes)?)?;
    fs::write(root.join("gvm-py/python/gvm/_codes.py"), python(&codes)?)?;
    replace(&root.join("schema/error.capnp"), &schema(&codes)?)?;
    replace(&root.join("docs/errors.md"), &document(&codes)?)
}

/// Replaces the generated part of a file, between the two lines that mark it.
fn replace(path: &Path, with: &str) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let marks = || format!("`{}` has no marks of a generated part", path.display());
    let begin = text.find(BEGIN).and_then(|at| Some(at + text[at..].find('\n')? + 1)).ok_or_else(marks)?;
    let end = text.find(END).and_then(|at| text[..at].rfind('\n')).ok_or_else(marks)? + 1;
    fs::write(path, format!("{}{with}{}", &text[..begin], &text[end..]))?;
    Ok(())
}

fn rust(codes: &[Code]) -> Result<String> {
    let mut to = String::from(
        "//! The error codes. Generated from `schema/codes.toml` by `cargo run -p gvm-codegen`: do not edit.\n\
         //!\n\
         //! In: a number of the wire. Out: a code, its name. Must not know: when a code is used.\n\n\
         /// What went wrong, as a program can test it. The numbers are those of the wire and never change.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]\n#[non_exhaustive]\n#[repr(u16)]\npub enum Code {\n",
    );
    for (number, code) in codes.iter().enumerate() {
        writeln!(to, "    /// {}\n    {} = {number},", code.summary, code.camel())?;
    }
    writeln!(
        to,
        "}}\n\n/// Every code, in the order of the numbers.\npub const CODES: [Code; {}] = [",
        codes.len()
    )?;
    for code in codes {
        writeln!(to, "    Code::{},", code.camel())?;
    }
    to += "];\n\nimpl Code {\n    /// The code as people and programs see it: `MODULE_NOT_FOUND`.\n\
           \x20   pub const fn as_str(self) -> &'static str {\n        match self {\n";
    for code in codes {
        writeln!(to, "            Code::{} => \"{}\",", code.camel(), code.name)?;
    }
    to += "        }\n    }\n}\n";
    Ok(to)
}

fn schema(codes: &[Code]) -> Result<String> {
    let mut to = String::from("enum Code {\n");
    for (number, code) in codes.iter().enumerate() {
        writeln!(to, "  {} @{number};", code.lower_camel())?;
    }
    to += "}\n";
    Ok(to)
}

fn python(codes: &[Code]) -> Result<String> {
    let mut to = String::from(
        "\"\"\"One exception class for each error code. Generated from `schema/codes.toml` by\n\
         `cargo run -p gvm-codegen`: do not edit.\n\n\
         In: nothing. Out: classes that a program can catch by code, by `Error`, or by the builtin that fits.\n\
         Must not know: when they are raised.\n\"\"\"\n\n\
         from __future__ import annotations\n\n\
         from ._error import Error\n",
    );
    for code in codes {
        let bases: String = code.python.iter().map(|base| format!(", {base}")).collect();
        write!(
            to,
            "\n\nclass {}(Error{bases}):\n    \"\"\"{}\"\"\"\n\n    code = \"{}\"\n",
            code.camel(),
            code.summary,
            code.name
        )?;
    }
    to += "\n\nCLASSES: dict[str, type[Error]] = {\n    kind.code: kind\n    for kind in (\n";
    for code in codes {
        writeln!(to, "        {},", code.camel())?;
    }
    to += "    )\n}\n";
    Ok(to)
}

fn document(codes: &[Code]) -> Result<String> {
    let mut to = String::new();
    for code in codes {
        writeln!(to, "\n## `{}`\n\n{}", code.name, code.summary)?;
        if let Some(about) = &code.about {
            writeln!(to, "{}", about.trim())?;
        }
        writeln!(to, "\nWhat to do: {}", code.fix)?;
    }
    to.push('\n');
    Ok(to)
}
