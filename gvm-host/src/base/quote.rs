//! Quotes text for a shell.
//!
//! In: a path or a word of a command that a message suggests. Out: the same, in quotes if a shell would otherwise
//! change it. Pure. Must not know: the command.

use std::path::Path;

/// Quotes a path.
pub fn path(path: &Path) -> String {
    word(&path.to_string_lossy())
}

/// Quotes a word.
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
    fn a_shell_reads_the_same_text() {
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
