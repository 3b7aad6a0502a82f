//! `gvm new`: the first files of a module. `tests/languages` builds and calls them; no tools are needed here.
//!
//! In: names and languages. Out: folders without unfilled placeholders, or an error and no new files.
//! Must not know: the languages.

use std::path::Path;

use crate::bed::Bed;

fn check(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        assert!(!path.to_str().unwrap().contains("{{"), "{}", path.display());
        match path.is_dir() {
            true => check(&path),
            false => {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(!text.contains("{{"), "{}: {text}", path.display());
                assert!(!text.contains("../"), "{} refers outside its folder: {text}", path.display());
            }
        }
    }
}

#[test]
fn every_language() {
    let bed = Bed::bare();
    for language in ["rust", "c", "python", "js"] {
        let name = format!("my-{language}-1");
        let said = bed.gvm(["new", &name, "--lang", language]).ok();
        assert!(said.contains(&name) && said.contains("README.md"), "{said}");
        let readme = std::fs::read_to_string(bed.folder().join(&name).join("README.md")).unwrap();
        assert!(readme.contains(&format!("--name={name}")), "{readme}");
        check(&bed.folder().join(&name));
    }
}

#[test]
fn what_cannot_be() {
    let bed = Bed::bare();
    bed.write("taken", "kept");
    let err = bed.gvm(["new", "taken"]).fails("SYNTAX");
    assert!(err.contains("another name"), "{err}");
    assert_eq!(std::fs::read_to_string(bed.folder().join("taken")).unwrap(), "kept");
    for (name, language) in [("Big", "c"), ("a--b", "c"), ("..", "c"), ("fine", "cobol")] {
        let ended = bed.gvm(["new", name, "--lang", language]);
        assert_eq!(ended.status, Some(2), "{name} {language}: {}", ended.err());
    }
    assert_eq!(std::fs::read_dir(bed.folder()).unwrap().count(), 1, "no folder was created");
    bed.gvm(["new", "no/such/folder/fine"]).fails("INTERNAL");
}
