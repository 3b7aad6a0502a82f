//! Writes the Rust of every schema into `bindings/wire/src`.
//!
//! In: `schema/*.capnp`, the `capnp` compiler on PATH. Out: one `*_capnp.rs` a schema. Run by
//! `cargo run -p gvm-codegen`; CI runs it too and fails where the committed code differs.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let schema = root.join("schema");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&schema)?
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "capnp"))
        .collect();
    files.sort();
    let mut command = capnpc::CompilerCommand::new();
    command.src_prefix(&schema).output_path(root.join("bindings/wire/src"));
    for file in &files {
        command.file(file);
    }
    command.run()?;
    files.iter().try_for_each(|file| forget_compiler_version(&root, file))
}

/// Drops the one line that differs from machine to machine, so that the same schema always gives
/// the same bytes.
fn forget_compiler_version(root: &Path, schema: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let stem = schema.file_stem().unwrap_or_default().to_string_lossy();
    let path = root.join(format!("bindings/wire/src/{stem}_capnp.rs"));
    let text = std::fs::read_to_string(&path)?;
    let kept = text.split_inclusive('\n').filter(|line| !line.starts_with("// capnp binary version"));
    std::fs::write(&path, kept.collect::<String>())?;
    Ok(())
}
