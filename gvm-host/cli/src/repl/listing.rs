//! Stored modules as lists: for people and as JSON, the same in the REPL, `gvm eval` and `gpmd wasm`.
//!
//! In: entries of the index. Out: lines of a table, JSON. Must not know: where they are printed.

use gvm_host::index::{Entry, Resolved};
use gvm_host::limits;
use semver::Version;
use serde_json::{Value as Json, json};

/// Returns one version of a module as `--json` prints it.
pub fn to_json(resolved: &Resolved<'_>) -> Json {
    let Resolved { name, version, entry } = resolved;
    let Entry { sha256, size, kind, main, exports, types, uploaded } = entry;
    let mut value = json!({
        "name": name.as_str(),
        "version": version.to_string(),
        "sha256": sha256.to_string(),
        "size": size,
        "kind": kind.as_str(),
        "main": main,
        "exports": exports,
    });
    if !types.is_empty() {
        value["types"] = types.iter().map(|(name, spelled)| (name.to_owned(), Json::from(spelled))).collect();
    }
    value["uploaded"] = uploaded.as_str().into();
    value
}

/// Returns a table of versions for people, one line per version: name, version, kind, size, and a mark: whether the version is
/// pinned, or its device.
pub fn table(rows: &[(Resolved<'_>, String)]) -> Vec<String> {
    let width = |text: fn(&Resolved<'_>) -> String| {
        rows.iter().map(|(resolved, _)| text(resolved).len()).max().unwrap_or(0)
    };
    let names = width(|resolved| resolved.name.to_string());
    let versions = width(|resolved| resolved.version.to_string());
    let line = |(Resolved { name, version, entry }, mark): &(Resolved<'_>, String)| {
        let (name, version, kind) = (name.as_str(), Version::to_string(version), entry.kind.as_str());
        let size = limits::bytes(entry.size);
        format!("{name:names$}  {version:versions$}  {kind:9}  {size:>10}  {mark}").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
