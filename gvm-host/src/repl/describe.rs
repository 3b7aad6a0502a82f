//! What a module is, for people and for programs.
//!
//! In: a module's bytes. Out: its kind, size, hash, imports, exports, WIT, and what it may need to be
//! granted, as text or JSON. Must not know: where the bytes came from, the terminal.

use serde_json::{Value as Json, json};

use crate::engine::inspect::{self, Export, Kind, ModuleInfo};
use crate::error::Result;
use crate::id::Hash;
use crate::inert;

/// A module that was looked into.
pub struct Description {
    info: ModuleInfo,
    size: usize,
    hash: Hash,
}

/// What a module can use only where the node that runs it grants it.
#[derive(Debug, PartialEq)]
pub struct Need {
    /// How it is granted.
    pub flag: &'static str,
    /// What for.
    pub what: &'static str,
    /// The imports that tell so.
    pub imports: Vec<String>,
}

/// Imports that stand for a grant: the flag, what it gives, how the imports begin.
const GRANTS: [(&str, &str, &[&str]); 4] = [
    (
        "--dir",
        "folders",
        &[
            "wasi:filesystem/",
            "wasi_snapshot_preview1.path_",
            "wasi_snapshot_preview1.fd_prestat_",
            "wasi_unstable.path_",
            "wasi_unstable.fd_prestat_",
        ],
    ),
    (
        "--env",
        "environment variables",
        &["wasi:cli/environment@", "wasi_snapshot_preview1.environ_", "wasi_unstable.environ_"],
    ),
    ("--allow-net", "the network", &["wasi:sockets/"]),
    ("--grant nodes", "the network of nodes", &["gvm:node/nodes@"]),
];

/// What every node offers to components, granted or not: packages, their versions, their interfaces. What
/// `imports::Linkers` links.
const INTERFACES: [(&str, &str, &[&str]); 7] = [
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
    ("wasi:filesystem", "0.2.", &["preopens", "types"]),
    ("wasi:io", "0.2.", &["error", "poll", "streams"]),
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

/// Whether every node offers this import.
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

impl Description {
    /// Looks into a module; takes as long as validating it does.
    ///
    /// # Errors
    /// `MODULE_INVALID`.
    pub fn of(bytes: &[u8]) -> Result<Description> {
        Ok(Description { info: inspect::inspect(bytes)?, size: bytes.len(), hash: Hash::of(bytes) })
    }

    /// What it can use only where it is granted. A toolchain's library may import what the program never
    /// uses: without the grant it finds nothing there, and runs.
    pub fn needs(&self) -> Vec<Need> {
        let need = |(flag, what, begins): &(&'static str, &'static str, &[&str])| {
            let told = |import: &&String| begins.iter().any(|begin| import.starts_with(begin));
            let imports: Vec<String> = self.info.imports.iter().filter(told).cloned().collect();
            (!imports.is_empty()).then_some(Need { flag, what, imports })
        };
        GRANTS.iter().filter_map(need).collect()
    }

    /// What it imports that no node offers: it cannot run.
    pub fn unsatisfied(&self) -> Vec<&str> {
        self.info.wanting.iter().map(String::as_str).filter(|import| !is_offered(import)).collect()
    }

    fn kind(&self) -> &'static str {
        match self.info.kind {
            Kind::Core => "core module",
            Kind::Component => "component",
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        let info = &self.info;
        let main = if info.main { ", can be run by itself" } else { "" };
        let mut text = format!("{}{main}\nsize    {} bytes\nsha256  {}", self.kind(), self.size, self.hash);
        let mut list = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text += &format!("\n{title}\n  {}", lines.join("\n  "));
            }
        };
        let needs = self.needs();
        let width = needs.iter().map(|need| need.flag.len()).max().unwrap_or(0);
        let need = |need: &Need| format!("{:width$}  for {}", need.flag, need.what);
        list("has only what is granted", needs.iter().map(need).collect());
        let name = |name: &str| inert::line(name).into_owned();
        list("cannot run here: nothing offers", self.unsatisfied().into_iter().map(name).collect());
        list("imports", info.imports.iter().map(|import| name(import)).collect());
        list("exports", info.exports.iter().map(|export| info.types.shown(&export.signature())).collect());
        list("wit", info.wit.iter().flat_map(|wit| wit.lines()).map(name).collect());
        // Lines of WIT that are empty have nothing to be indented.
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// For a program.
    pub fn json(&self) -> Json {
        let info = &self.info;
        let needs = self.needs();
        let need = |need: &Need| json!({ "flag": need.flag, "for": need.what, "imports": need.imports });
        json!({
            "kind": self.kind(), "size": self.size, "sha256": self.hash.to_string(), "main": info.main,
            "grants": needs.iter().map(need).collect::<Vec<_>>(), "unsatisfied": self.unsatisfied(),
            "imports": info.imports, "exports": info.exports.iter().map(Export::signature).collect::<Vec<_>>(),
            "wit": info.wit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(imports: &[(&str, &str)]) -> Description {
        let imports: String =
            imports.iter().map(|(module, name)| format!("(import \"{module}\" \"{name}\" (func))")).collect();
        Description::of(&inspect::to_binary(format!("(module {imports})").as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn grants_are_told_by_imports() {
        let p1 = "wasi_snapshot_preview1";
        let flags = |description: &Description| {
            description.needs().into_iter().map(|need| need.flag).collect::<Vec<_>>()
        };
        assert_eq!(flags(&described(&[(p1, "fd_write"), (p1, "clock_time_get")])), [""; 0]);
        assert_eq!(flags(&described(&[(p1, "path_open"), (p1, "environ_get")])), ["--dir", "--env"]);
        let component = |import: &str| {
            let text = format!("(component (import \"{import}\" (instance (export \"f\" (func)))))");
            Description::of(&inspect::to_binary(text.as_bytes()).unwrap()).unwrap()
        };
        assert_eq!(flags(&component("gvm:node/nodes@0.1.0")), ["--grant nodes"]);
        assert_eq!(flags(&component("wasi:sockets/tcp@0.2.6")), ["--allow-net"]);
        assert_eq!(component("wasi:sockets/tcp@0.2.6").unsatisfied(), [""; 0]);
        let foreign = component("ns:pkg/host@1.0.0");
        assert_eq!(foreign.unsatisfied(), ["ns:pkg/host@1.0.0"]);
        assert!(foreign.text().contains("cannot run here: nothing offers\n  ns:pkg/host@1.0.0"));
        assert_eq!(foreign.json()["unsatisfied"][0], "ns:pkg/host@1.0.0");
        for nowhere in ["wasi:clocks/wall-clock@0.3.0", "wasi:cli/other@0.2.0", "gvm:node/nodes@0.9.0"] {
            assert_eq!(component(nowhere).unsatisfied(), [nowhere]);
        }
        assert_eq!(described(&[(p1, "fd_write"), (p1, "fd_oops")]).unsatisfied(), [format!("{p1}.fd_oops")]);
    }

    #[test]
    fn types_need_nobody_to_offer_them() {
        let text = r#"(component
            (import "ns:pkg/shapes@1.0.0" (instance (type u8) (export "shape" (type (eq 0)))))
            (import "ns:pkg/files@1.0.0" (instance (export "file" (type (sub resource))))))"#;
        let found = Description::of(&inspect::to_binary(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(found.unsatisfied(), ["ns:pkg/files@1.0.0"]);
    }
}
