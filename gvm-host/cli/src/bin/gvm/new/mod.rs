//! `gvm new`: a module's first files, in a language of one's choice.
//!
//! In: a name and a language. Out: a folder whose README builds, uploads and calls the module by the usual
//! tools of that language. Must not know: these tools.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gvm_cli::repl::render::Screen;
use gvm_host::Name;
use gvm_host::{Code, Error, Result};

/// The languages there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    Rust,
    C,
    Python,
    Js,
}

/// Where a file goes, and its text with `{{name}}` for the module's name and `{{file}}` for the name of its
/// Rust library.
type Template = (&'static str, &'static str);

const RUST: &[Template] = &[
    ("Cargo.toml", include_str!("rust/Cargo.toml")),
    ("src/lib.rs", include_str!("rust/lib.rs")),
    ("README.md", include_str!("rust/README.md")),
    (".gitignore", "target/\n"),
    ("gvm-guest/src/lib.rs", include_str!("../../../../../../bindings/guest/src/lib.rs")),
    ("gvm-guest/wit/node.wit", include_str!("../../../../../../wit/node.wit")),
    ("gvm-guest/Cargo.toml", GUEST),
];

/// The SDK as a project carries it along.
const GUEST: &str = concat!(
    "# Modules for the Ghost Virtual Machine, in Rust.\n[package]\nname = \"gvm-guest\"\nversion = \"",
    env!("CARGO_PKG_VERSION"),
    "\"\nedition = \"2024\"\npublish = false\n\n[dependencies]\nwit-bindgen = \"0.61\"\n"
);

const C: &[Template] = &[
    ("{{name}}.c", include_str!("c/module.c")),
    ("Makefile", include_str!("c/Makefile")),
    ("README.md", include_str!("c/README.md")),
    (".gitignore", "*.wasm\n"),
];

const PYTHON: &[Template] = &[
    ("app.py", include_str!("python/app.py")),
    ("wit/world.wit", include_str!("python/world.wit")),
    ("README.md", include_str!("python/README.md")),
    (".gitignore", "*.wasm\n.venv/\n__pycache__/\n"),
];

const JS: &[Template] = &[
    ("{{name}}.js", include_str!("js/module.js")),
    ("package.json", include_str!("js/package.json")),
    ("wit/world.wit", include_str!("js/world.wit")),
    ("README.md", include_str!("js/README.md")),
    (".gitignore", "*.wasm\nnode_modules/\n"),
];

/// Writes the folder, which must not be there yet.
///
/// # Errors
/// `SYNTAX` where the name is none, or something has it already; `STORAGE_FULL`, `INTERNAL` of the disk.
pub fn new(screen: &mut Screen, path: &Path, language: Language) -> Result<i32> {
    let last = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name: Name = last.parse().map_err(|error: Error| error.with_exit(2))?;
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| match error.kind() {
            ErrorKind::AlreadyExists => {
                let text = format!("{} is there already: choose another name", path.display());
                Error::new(Code::Syntax, text).with_source(error)
            }
            _ => Error::io(path.display(), error),
        }
    };
    fs::create_dir(path).map_err(disk(path))?;
    let templates = match language {
        Language::Rust => RUST,
        Language::C => C,
        Language::Python => PYTHON,
        Language::Js => JS,
    };
    let file = name.as_str().replace('-', "_");
    let fill = |text: &str| text.replace("{{name}}", name.as_str()).replace("{{file}}", &file);
    for (place, text) in templates {
        let to: PathBuf = path.join(fill(place));
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(disk(folder))?;
        }
        // The SDK stands beside its WIT here.
        let text = text.replace("path: \"../../wit\"", "path: \"wit\"");
        fs::write(&to, fill(&text)).map_err(disk(&to))?;
    }
    screen.line(&format!("{} is ready: its README.md builds, uploads and calls it.", path.display()));
    Ok(0)
}
