//! The layers of the library, as ARCHITECTURE.md has them.
//!
//! In: the table of layers in ARCHITECTURE.md, every source file. Out: failures that name the file and the line
//! of an import that points upwards, or of a crate that a folder must not name. Must not know: what the
//! code does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Each folder and the folders that it may import, lowest layer first.
fn table() -> Vec<(String, BTreeSet<String>)> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## Layers").nth(1).expect("ARCHITECTURE.md has a section on layers");
    let section = section.split("\n## ").next().unwrap();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    // The first table: the library's folders.
    let rows = section.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).filter(|line| line.starts_with("| `"));
    let rows = rows.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    rows.map(|cells| (quoted(cells[1]).remove(0), quoted(cells[2]).into_iter().collect())).collect()
}

/// Every line of code that names the crate's own folder after `crate::`, with its place.
fn imports(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).unwrap();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for (_, after) in line.match_indices("crate::").map(|(at, word)| (at, &line[at + word.len()..])) {
            let names = match after.strip_prefix('{') {
                Some(group) => group.split(',').map(|item| item.split("::").next().unwrap()).collect(),
                None => vec![after],
            };
            for name in names {
                let name: String =
                    name.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if !name.is_empty() {
                    found.push((number + 1, name));
                }
            }
        }
    }
    found
}

#[test]
fn folders_import_downwards_only() {
    let table = table();
    let known: BTreeSet<&str> = table.iter().map(|(folder, _)| folder.as_str()).collect();
    let source = root().join("gvm-host/src");
    let folders: BTreeSet<String> = fs::read_dir(&source)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "bin")
        .collect();
    assert_eq!(known, folders.iter().map(String::as_str).collect(), "the table names every folder");
    let mut wrong = Vec::new();
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (place, (folder, may)) in table.iter().enumerate() {
        let below: BTreeSet<&str> = table[..place].iter().map(|(folder, _)| folder.as_str()).collect();
        for name in may {
            assert!(
                below.contains(name.as_str()),
                "the table lets `{folder}` import `{name}`, which is not below it"
            );
        }
        for file in files(&source.join(folder), "rs") {
            for (line, name) in imports(&file) {
                if name == *folder {
                    continue;
                }
                if !may.contains(&name) {
                    wrong.push(format!("{}:{line}: `{folder}` imports `{name}`", file.display()));
                }
                used.entry(folder).or_default().insert(name);
            }
        }
        let used = used.get(folder.as_str()).cloned().unwrap_or_default();
        assert_eq!(used, *may, "the table says what `{folder}` imports");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Files under these folders that name a crate, apart from those that may.
fn naming(word: &str, folders: &[&str], may: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in folders {
        for file in files(&root().join(folder), "rs") {
            let name = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            if may.iter().any(|may| name.starts_with(may)) {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let names = |line: &str| {
                line.match_indices(word).any(|(at, _)| {
                    let ends = |c: Option<char>| {
                        c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
                    };
                    ends(line[..at].chars().next_back()) && line[at + word.len()..].starts_with("::")
                })
            };
            if code.clone().any(names) {
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn crates_are_named_where_they_belong() {
    let all = ["gvm-host/src", "gvm-host/cli/src", "gvm-py/src"];
    let none: Vec<String> = Vec::new();
    assert_eq!(naming("wasmtime", &all, &["gvm-host/src/engine/", "gvm-host/src/imports/"]), none);
    assert_eq!(
        naming("wasmtime_environ", &all, &["gvm-host/src/engine/", "gvm-host/src/modules/translate.rs"]),
        none
    );
    let wire = ["gvm-host/src/wire/", "gvm-host/src/peer/", "gvm-host/src/gpmd/", "gvm-host/src/daemon/"];
    assert_eq!(naming("capnp", &all, &wire), none);
    assert_eq!(naming("capnp_rpc", &all, &wire), none);
    assert_eq!(naming("pyo3", &all, &["gvm-py/src/"]), none);
    for terminal in ["clap", "reedline", "indicatif", "crossterm", "nu_ansi_term"] {
        assert_eq!(naming(terminal, &all, &["gvm-host/cli/src/"]), none, "{terminal}");
    }
}

/// What is exported for the library's own tests is not for the programs, nor for Python.
#[test]
fn programs_use_the_public_interface() {
    for folder in ["gvm-host/cli/src", "gvm-py/src", "gvm-host/examples"] {
        for file in files(&root().join(folder), "rs") {
            let text = fs::read_to_string(&file).unwrap();
            assert!(!text.contains("gvm_host::internals"), "{} uses internals", file.display());
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for folder in ["gvm-host/src", "gvm-host/cli/src", "gvm-py/src"] {
        for file in files(&root().join(folder), "rs") {
            let text = fs::read_to_string(&file).unwrap();
            assert!(
                text.starts_with("//!") || file.ends_with("tests.rs"),
                "{} has no header",
                file.display()
            );
        }
    }
}

/// Invariant 6 of ARCHITECTURE.md.
#[test]
fn only_programs_read_the_environment_and_print() {
    let may_print = [
        "gvm-host/cli/src/bin/",
        "gvm-host/cli/src/repl/stdio.rs",
        "gvm-host/cli/src/repl/terminal.rs",
        // The compiler is a process of its own and reports to its parent.
        "gvm-host/src/engine/compiler.rs",
    ];
    for folder in ["gvm-host/src", "gvm-host/cli/src", "gvm-py/src"] {
        for file in files(&root().join(folder), "rs") {
            let name = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&file).unwrap();
            let code = || text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let is_program = name.starts_with("gvm-host/cli/src/bin/");
            assert!(
                is_program || !code().any(|line| line.contains("env::var")),
                "{name} reads the environment"
            );
            let prints = |line: &str| ["io::stdout()", "io::stderr()"].iter().any(|word| line.contains(word));
            let asks = |line: &str| line.contains("is_terminal()");
            let may = may_print.iter().any(|may| name.starts_with(may));
            assert!(may || !code().any(|line| prints(line) && !asks(line)), "{name} prints");
        }
    }
}
