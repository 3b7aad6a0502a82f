//! Writes what is generated from `schema/`: the Rust of every schema, and all that follows from the list of
//! error codes.
//!
//! In: `schema/*.capnp`, `schema/codes.toml`, the `capnp` compiler on PATH. Out: `bindings/wire/src`, and the files
//! that `codes.rs` names. Run it with `cargo run -p gvm-codegen`; CI runs it too and fails where the
//! committed files differ.

mod codes;

use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    codes::generate(&root)?;
    generate(&root.join("schema"), &root.join("bindings/wire/src"))?;
    let bench = root.join("gvm-host/cli/benches/remote_add");
    generate(&bench, &bench)
}

/// The Rust of every schema in one folder, into another.
fn generate(schemas: &Path, into: &Path) -> Result<()> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(schemas)?
        .collect::<std::result::Result<Vec<_>, _>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "capnp"))
        .collect();
    files.sort();
    let mut command = capnpc::CompilerCommand::new();
    command.src_prefix(schemas).output_path(into);
    for file in &files {
        command.file(file);
    }
    command.run()?;
    files.iter().try_for_each(|file| forget_compiler_version(into, file))
}

/// Drops the one line that differs from machine to machine, so that the same schema always gives
/// the same bytes.
fn forget_compiler_version(into: &Path, schema: &Path) -> Result<()> {
    let stem = schema.file_stem().unwrap_or_default().to_string_lossy();
    let path = into.join(format!("{stem}_capnp.rs"));
    let text = std::fs::read_to_string(&path)?;
    let kept = text.split_inclusive('\n').filter(|line| !line.starts_with("// capnp binary version"));
    std::fs::write(&path, kept.collect::<String>())?;
    Ok(())
}
