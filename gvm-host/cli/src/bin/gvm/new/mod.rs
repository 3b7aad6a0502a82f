//! `gvm new`: creates the first files of a module.
//!
//! In: a path and a language. Out: a folder with source code, and a README that shows how to build, upload
//! and call the module. Must not know: the tools of the languages.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use gvm_cli::repl::render::Screen;
use gvm_host::{Code, Error, Name, Result};

/// The languages with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    Rust,
    C,
    Python,
    Js,
}

/// The path of a file, and its text: `{{name}}` stands for the name of the module, `{{file}}` for the name of
/// its Rust library.
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

/// The manifest of the SDK, which each project contains.
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

/// Creates the folder, which must not exist.
///
/// # Errors
/// `SYNTAX` if the name is not valid or the folder exists; `STORAGE_FULL` or `INTERNAL` if it cannot be written.
pub fn new(screen: &mut Screen, path: &Path, language: Language) -> Result<i32> {
    let last = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name: Name = last.parse().map_err(|error: Error| error.with_exit(2))?;
    let disk = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| match error.kind() {
            ErrorKind::AlreadyExists => {
                Error::new(Code::Syntax, format!("`{}` already exists", path.display()))
                    .with_help("choose another name")
                    .with_source(error)
            }
            _ => Error::io(format_args!("cannot create `{}`", path.display()), error),
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
        // In the project, the SDK has its own copy of the WIT.
        let text = text.replace("path: \"../../wit\"", "path: \"wit\"");
        fs::write(&to, fill(&text)).map_err(disk(&to))?;
    }
    screen.line(&format!("Created {}. README.md shows how to build, upload and call it.", path.display()));
    Ok(0)
}
