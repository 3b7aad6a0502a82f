//! Describes a module as text and as JSON.
//!
//! In: the bytes of a module. Out: its kind, size, hash, imports, exports, WIT, and the grants that it may
//! need. Must not know: where the bytes come from, the terminal.

use serde_json::{Value as Json, json};

use gvm_host::inspect::{Export, Kind, ModuleInfo};
use gvm_host::text::inert;
use gvm_host::{Hash, Result, inspect, offered};

/// A module that was inspected.
pub struct Description {
    info: ModuleInfo,
    size: usize,
    hash: Hash,
}

/// Something that a module can use only if the node that runs it grants it.
#[derive(Debug, PartialEq)]
pub struct Need {
    /// The flag that grants it.
    pub flag: &'static str,
    /// What the flag gives access to.
    pub what: &'static str,
    /// The imports that use it.
    pub imports: Vec<String>,
}

/// The imports that need a grant: the flag, what it gives access to, and how the names of the imports begin.
const GRANTS: [(&str, &str, &[&str]); 6] = [
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
    ("--config", "configuration values", &["wasi:config/"]),
    ("--allow-net", "the network", &["wasi:sockets/", "wasi:http/outgoing-handler@"]),
    ("--grant nodes", "the network of nodes", &["gvm:node/nodes@"]),
    ("--grant keyvalue", "keys and values that last", &["wasi:keyvalue/"]),
];

impl Description {
    /// Inspects a module. Takes as long as its validation.
    ///
    /// # Errors
    /// `MODULE_INVALID`.
    pub fn of(bytes: &[u8]) -> Result<Description> {
        Ok(Description { info: inspect::inspect(bytes)?, size: bytes.len(), hash: Hash::of(bytes) })
    }

    /// Returns the grants that it may need. Toolchains often import more than a program uses: without the
    /// grant, the module runs, but cannot use the import.
    pub fn needs(&self) -> Vec<Need> {
        let need = |(flag, what, begins): &(&'static str, &'static str, &[&str])| {
            let told = |import: &&String| begins.iter().any(|begin| import.starts_with(begin));
            let imports: Vec<String> = self.info.imports.iter().filter(told).cloned().collect();
            (!imports.is_empty()).then_some(Need { flag, what, imports })
        };
        GRANTS.iter().filter_map(need).collect()
    }

    /// Returns the imports that no node offers. If there are any, the module cannot run.
    pub fn unsatisfied(&self) -> Vec<&str> {
        offered::missing(&self.info.wanting)
    }

    fn kind(&self) -> &'static str {
        match self.info.kind {
            Kind::Core => "core module",
            Kind::Component => "component",
        }
    }

    /// Returns the description as text.
    pub fn text(&self) -> String {
        let info = &self.info;
        let main = if info.main { ", has a main" } else { "" };
        let mut text = format!("{}{main}\nsize    {} bytes\nsha256  {}", self.kind(), self.size, self.hash);
        let mut list = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text += &format!("\n{title}\n  {}", lines.join("\n  "));
            }
        };
        let needs = self.needs();
        let width = needs.iter().map(|need| need.flag.len()).max().unwrap_or(0);
        let need = |need: &Need| format!("{:width$}  for {}", need.flag, need.what);
        list("may need these grants", needs.iter().map(need).collect());
        let name = |name: &str| inert::line(name).into_owned();
        list("cannot run here: no node offers", self.unsatisfied().into_iter().map(name).collect());
        list("imports", info.imports.iter().map(|import| name(import)).collect());
        list("exports", info.exports.iter().map(|export| info.types.shown(&export.signature())).collect());
        list("wit", info.wit.iter().flat_map(|wit| wit.lines()).map(name).collect());
        // Empty lines of WIT must not be indented.
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// Returns the description as JSON.
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
        for (import, flag) in [
            ("wasi:sockets/tcp@0.2.6", "--allow-net"),
            ("wasi:http/outgoing-handler@0.2.0", "--allow-net"),
            ("wasi:config/store@0.2.0-rc.1", "--config"),
            ("wasi:keyvalue/batch@0.2.0-draft", "--grant keyvalue"),
        ] {
            assert_eq!(flags(&component(import)), [flag]);
            assert_eq!(component(import).unsatisfied(), [""; 0]);
        }
        let foreign = component("ns:pkg/host@1.0.0");
        assert_eq!(foreign.unsatisfied(), ["ns:pkg/host@1.0.0"]);
        assert!(foreign.text().contains("cannot run here: no node offers\n  ns:pkg/host@1.0.0"));
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
