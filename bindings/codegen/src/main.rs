//! Generates the files that depend on `schema/`: the Rust code of every schema, and the files with error codes.
//!
//! In: `schema/*.capnp`, `schema/codes.toml`, the benchmark's schema, the `capnp` compiler on PATH. Out:
//! `bindings/wire/src`, the benchmark's code, and the files that `codes.rs` names. Must not know: the rest of the
//! product. Run it with `cargo run -p gvm-codegen`. CI runs it too, and fails if the committed code differs.

mod codes;

use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    codes::generate(&root)?;
    generate(&root.join("schema"), &root.join("bindings/wire/src"))?;
    let bench = root.join("benches/system");
    generate(&bench, &bench)
}

/// Generates the Rust code of every schema in `schemas` into the folder `into`.
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

/// Removes the only line that depends on the machine, so that the same schema always generates the same bytes.
fn forget_compiler_version(into: &Path, schema: &Path) -> Result<()> {
    let stem = schema.file_stem().unwrap_or_default().to_string_lossy();
    let path = into.join(format!("{stem}_capnp.rs"));
    let text = std::fs::read_to_string(&path)?;
    let kept = text.split_inclusive('\n').filter(|line| !line.starts_with("// capnp binary version"));
    std::fs::write(&path, kept.collect::<String>())?;
    Ok(())
}
