//! Makes untrusted text safe to show on a terminal, in a log or in a line of output.
//!
//! In: names, reasons and messages that a guest, a module or a peer chose. Out: the same text, in which
//! no character moves the cursor, ends the line, reorders its neighbours or is invisible. Pure. Must not know:
//! where the text comes from, where it is shown.
//!
//! It escapes the characters of Unicode's general categories Cc, Zl and Zp, the bidirectional controls of
//! Unicode Standard Annex 9, and the characters that are always invisible (Unicode Technical
//! Standard 39). It keeps the zero-width joiners, because several scripts cannot be written without them.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns whether a character of untrusted text must be escaped. This includes line breaks and tabs.
pub fn acts(c: char) -> bool {
    c.is_control() || hides(c)
}

/// Returns whether a character other than a control character reorders text, ends a line, or is invisible.
pub fn hides(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns the text as one line. Characters for which [`acts`] holds become escapes, such as `\n` or `\u{1b}`.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, acts, |c, out| out.extend(c.escape_default()))
}

/// Returns the text with its line breaks and tabs, and all other characters for which [`acts`] holds escaped.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| acts(c) && !matches!(c, '\n' | '\t'), |c, out| out.extend(c.escape_default()))
}

/// Escapes the characters in JSON text that JSON permits and a terminal would obey. The result parses as the
/// same value.
pub fn json(text: &str) -> Cow<'_, str> {
    escape(
        text,
        |c| acts(c) && c != '\n',
        |c, out| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing into a `String` cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        },
    )
}

fn escape(text: &str, which: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = text.find(&which) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        match which(c) {
            true => write(c, &mut out),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_not_copied() {
        for text in ["", "add", "naïve 世界 👨\u{200d}👩", "a:b/c@1.0.0", "נמל"] {
            assert!(matches!(line(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn active_characters_are_escaped() {
        assert_eq!(line("\x1b]0;x\x07\r\n\ty"), "\\u{1b}]0;x\\u{7}\\r\\n\\ty");
        assert_eq!(
            line("a\u{202e}b\u{9b}31m\u{2028}\u{feff}\u{7f}"),
            "a\\u{202e}b\\u{9b}31m\\u{2028}\\u{feff}\\u{7f}"
        );
        assert_eq!(lines("a\n\tb\x1b[2K\r"), "a\n\tb\\u{1b}[2K\\r");
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({ "a\u{9b}": "x\u{7f}\u{202e}\u{e0041}\n\x1b" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let inert = json(&text);
        assert!(inert.chars().all(|c| c == '\n' || !acts(c)), "{inert}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&inert).unwrap(), value);
    }
}
