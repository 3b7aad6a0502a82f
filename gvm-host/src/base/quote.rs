//! A word as a shell takes it.
//!
//! In: a path or a word that a person is told to type. Out: the same, quoted where a shell would read it
//! otherwise. Must not know: what it is typed for.

use std::path::Path;

/// A path, ready to be typed.
pub fn path(path: &Path) -> String {
    word(&path.to_string_lossy())
}

/// A word, ready to be typed.
pub fn word(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@%:,=".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_a_shell_reads_back() {
        for (given, typed) in [
            ("/home/a/.ghost-network", "/home/a/.ghost-network"),
            ("/my home", "'/my home'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("$x", "'$x'"),
        ] {
            assert_eq!(word(given), typed);
        }
    }
}
