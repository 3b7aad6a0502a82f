//! Chooses how the programs are linked.
//!
//! In: the target, and the C library of this machine. Out: arguments for the linker. Must not know: the code of the
//! programs.
//!
//! A program has about 60,000 addresses in its data that the loader corrects at each start, because the system chooses
//! where the program lies. Packed, they take 20 KB instead of 1.4 MB, which need not be read then. glibc understands the
//! packed form since 2.36. A program that is built on an older system is meant for older systems too, and does not use it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    let here = std::env::var_os("HOST") == std::env::var_os("TARGET");
    if here && is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && glibc() >= (2, 36) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Returns the version of this machine's glibc; zeros if it cannot be found.
fn glibc() -> (u32, u32) {
    let asked = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let version = said.trim().strip_prefix("glibc ").and_then(|version| {
        let (major, minor) = version.split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    });
    version.unwrap_or_default()
}
