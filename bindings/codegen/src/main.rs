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
    Ok(())
}
