//! Builds the guests once for all tests.
//!
//! In: the workspace `tests/guests`. Out: paths of built modules. The first test that needs a guest builds
//! all of them under a lock; later tests find a stamp with the hash of the same sources. Must not know: what
//! the guests do.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the path of a command program for WASI preview 1.
pub fn p1(name: &str) -> PathBuf {
    built().join(format!("wasm32-wasip1/release/{name}.wasm"))
}

/// Returns the path of the same program as a component, for WASI preview 2.
pub fn p2(name: &str) -> PathBuf {
    built().join(format!("wasm32-wasip2/release/{name}.wasm"))
}

/// Returns the path of the component that returns values of every type.
pub fn values() -> PathBuf {
    p2("values")
}

/// Returns the path of a module in text format.
pub fn wat(name: &str) -> PathBuf {
    sources().join(format!("wat/{name}.wat"))
}

/// Returns the path of the module `math` that the transcripts use, in text format.
pub fn math() -> PathBuf {
    repository().join("gvm-host/samples/math.wat")
}

/// Returns the root folder of the repository.
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
    // Variables that cargo set for the build of this test must not affect the build of the guests.
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

/// Returns a hash of the names and contents of the sources, without `wat`, which is not built.
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
