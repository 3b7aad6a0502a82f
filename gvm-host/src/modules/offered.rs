//! The names of the imports that every node offers.
//!
//! In: the imports of a module. Out: those that no node offers, before anything is compiled. Pure. Must not
//! know: the linker, grants. The names are those that `Linkers` links; a test compares the two.

use crate::base::error::{Code, Error, Result};

/// How many imports an error names.
const SHOWN: usize = 8;

/// What every node offers to components, with or without grants: packages, their versions, their interfaces.
/// The same as `Linkers` links.
const INTERFACES: [(&str, &str, &[&str]); 10] = [
    (
        "wasi:cli",
        "0.2.",
        &[
            "environment",
            "exit",
            "stderr",
            "stdin",
            "stdout",
            "terminal-input",
            "terminal-output",
            "terminal-stderr",
            "terminal-stdin",
            "terminal-stdout",
        ],
    ),
    ("wasi:clocks", "0.2.", &["monotonic-clock", "wall-clock"]),
    ("wasi:config", "0.2.0-rc.1", &["store"]),
    ("wasi:filesystem", "0.2.", &["preopens", "types"]),
    ("wasi:http", "0.2.", &["outgoing-handler", "types"]),
    ("wasi:io", "0.2.", &["error", "poll", "streams"]),
    ("wasi:keyvalue", "0.2.0-draft", &["atomics", "batch", "store"]),
    ("wasi:random", "0.2.", &["insecure", "insecure-seed", "random"]),
    (
        "wasi:sockets",
        "0.2.",
        &[
            "instance-network",
            "ip-name-lookup",
            "network",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
    ("gvm:node", "0.1.", &["nodes"]),
];

/// The functions of WASI preview 1 (`wasi_snapshot_preview1`, and `wasi_unstable` before it).
const PREVIEW_1: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// Returns whether every node offers this import.
fn is_offered(import: &str) -> bool {
    let preview_1 = ["wasi_snapshot_preview1.", "wasi_unstable."];
    if let Some(function) = preview_1.iter().find_map(|module| import.strip_prefix(module)) {
        return PREVIEW_1.contains(&function);
    }
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let (package, interface) = name.split_once('/').unwrap_or((name, ""));
    let offers = |(offered, versions, interfaces): &(&str, &str, &[&str])| {
        package == *offered && version.starts_with(versions) && interfaces.contains(&interface)
    };
    INTERFACES.iter().any(offers)
}

/// Returns the imports that no node offers.
pub fn missing(imports: &[String]) -> Vec<&str> {
    imports.iter().map(String::as_str).filter(|import| !is_offered(import)).collect()
}

/// Checks that every node offers these imports.
///
/// # Errors
/// `IMPORT_UNSATISFIED` with the imports that no node offers.
pub fn check(imports: &[String]) -> Result<()> {
    let missing = missing(imports);
    let named = missing.iter().take(SHOWN).map(|import| format!("`{import}`")).collect::<Vec<_>>().join(", ");
    let more = match missing.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::new(
            Code::ImportUnsatisfied,
            format!("the module imports {named}{more}, which no node offers"),
        )
        .with_help("run `gvm inspect` on the module to see all its imports")),
    }
}
