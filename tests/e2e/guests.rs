//! The guests, built once for all tests.
//!
//! In: the workspace `tests/guests`. Out: paths of built modules. The first test that asks builds them,
//! under a lock; the others find a stamp that names the very same sources. Must not know: what the
//! guests do.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A command program for WASI preview 1.
pub fn p1(name: &str) -> PathBuf {
    built().join(format!("wasm32-wasip1/release/{name}.wasm"))
}

/// The same program as a component, for WASI preview 2.
pub fn p2(name: &str) -> PathBuf {
    built().join(format!("wasm32-wasip2/release/{name}.wasm"))
}

/// The component that gives back values of every type.
pub fn values() -> PathBuf {
    p2("values")
}

/// A module that is written as text.
pub fn wat(name: &str) -> PathBuf {
    sources().join(format!("wat/{name}.wat"))
}

/// The `math` of the transcripts, as text.
pub fn math() -> PathBuf {
    repository().join("gvm-host/samples/math.wat")
}

/// The top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn sources() -> PathBuf {
    repository().join("tests/guests")
}

fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        fs::create_dir_all(&target).unwrap();
        let stamp = target.join("stamp");
        let fresh = || fs::read_to_string(&stamp).is_ok_and(|text| text == sources_hash());
        if !fresh() {
            let lock = File::create(target.join("lock")).unwrap();
            lock.lock().unwrap();
            // Another test may have built them while this one waited.
            if !fresh() {
                build(&target, "wasm32-wasip1", &["-p", "programs"]);
                build(&target, "wasm32-wasip2", &["--workspace"]);
                fs::write(&stamp, sources_hash()).unwrap();
            }
        }
        target
    })
}

fn build(target: &Path, triple: &str, packages: &[&str]) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "--locked", "--target", triple])
        .args(packages)
        .arg("--target-dir")
        .arg(target)
        .current_dir(sources());
    // What cargo told this test of its own build is not meant for another.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = ["CARGO_", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"];
        if ours.iter().any(|prefix| text.starts_with(prefix))
            && !text.starts_with("CARGO_HOME")
            && !text.starts_with("CARGO_NET")
        {
            cargo.env_remove(&name);
        }
    }
    let output = cargo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the guests for {triple} do not build (rustup target add {triple}):\n{said}"
    );
}

/// What the sources are: their names and bytes.
fn sources_hash() -> String {
    let mut hasher = DefaultHasher::new();
    let mut folders = vec![sources()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with("target") || path.ends_with("wat") => {}
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    for file in files {
        (&file, fs::read(&file).unwrap()).hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

#[test]
fn are_built() {
    for name in ["args", "both", "cat", "clocks", "files", "leave", "mischief", "net", "spend"] {
        assert!(p1(name).is_file() && p2(name).is_file(), "{name}");
    }
    assert!(values().is_file());
}
