//! Checks that the documents are complete, and that they match the code where a test can compare them.
//!
//! In: `docs/`, `README.md` and the source code. Out: what is missing. Must not know: how the code works.

use std::collections::BTreeSet;
use std::fs;

use crate::guests;

fn read(path: &str) -> String {
    fs::read_to_string(guests::repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The tests that SECURITY.md names are there.
#[test]
fn promises_have_tests() {
    let root = guests::repository();
    let text = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (mut file, mut named) = (String::new(), 0);
    for word in text.split('`').skip(1).step_by(2) {
        if word.ends_with(".rs") {
            file = std::fs::read_to_string(root.join(word)).unwrap_or_else(|error| panic!("{word}: {error}"));
        } else if word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && !file.is_empty()
        {
            let is_there = file.contains(&format!("fn {word}("));
            assert!(is_there, "no test is named {word}");
            named += 1;
        }
    }
    assert!(named > 20, "{named}");
}

#[test]
fn every_error_code_is_explained() {
    let list = read("schema/codes.toml");
    let named = list.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let codes: BTreeSet<&str> = named.collect();
    assert_eq!(codes.len(), 36, "{codes:?}");
    let text = read("docs/errors.md");
    let explained: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')).collect();
    assert_eq!(codes, explained);
    for section in text.split("\n## `").skip(1) {
        assert!(section.contains("What to do: "), "{section}");
    }
}

#[test]
fn every_setting_is_explained() {
    let text = read("docs/limits-and-grants.md");
    let source = read("gvm-host/cli/src/settings.rs");
    let fields = source.split("struct File {").nth(1).unwrap().split('}').next().unwrap();
    let keys =
        fields.lines().filter_map(|line| Some(line.trim().split_once(": Option<")?.0.replace('_', "-")));
    let mut count = 0;
    for key in keys {
        assert!(text.contains(&format!("`{key}`")), "docs/limits-and-grants.md does not mention `{key}`");
        count += 1;
    }
    assert!(count > 10);
}

/// The examples in `docs/modules.md` come from files that `gvm new` writes; `tests/languages` builds them.
#[test]
fn languages_are_shown_as_gvm_new_begins_them() {
    let text = read("docs/modules.md");
    let section = text.split("## In each language").nth(1).unwrap().split("\n## ").next().unwrap();
    for (fence, file) in
        [("rust", "rust/lib.rs"), ("c", "c/module.c"), ("python", "python/app.py"), ("js", "js/module.js")]
    {
        let shown = section.split(&format!("```{fence}\n")).nth(1).unwrap().split("```").next().unwrap();
        assert!(
            read(&format!("gvm-host/cli/src/bin/gvm/new/{file}")).contains(shown),
            "docs/modules.md shows code that {file} does not contain:\n{shown}"
        );
    }
}

#[test]
fn links_lead_somewhere() {
    let root = guests::repository();
    let mut documents: Vec<_> =
        fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    documents.push(root.join("README.md"));
    for document in documents.iter().filter(|path| path.extension().is_some_and(|kind| kind == "md")) {
        let text = fs::read_to_string(document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let target = document.parent().unwrap().join(path);
            assert!(target.exists(), "{}: {link}", document.display());
        }
    }
}
