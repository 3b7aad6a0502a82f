//! Makes the output of guests harmless for a terminal.
//!
//! In: bytes in pieces that may be cut anywhere. Out: text that cannot move the cursor, change colours, rename
//! the window or make the terminal answer. `inert` defines which characters can. Pure. Must not know: where it
//! is shown.

use crate::base::inert;

/// Turns a stream of bytes into harmless text. Use one per stream: it keeps the bytes of a character that is not
/// complete yet.
#[derive(Debug, Default)]
pub struct Sanitizer {
    rest: Vec<u8>,
}

impl Sanitizer {
    /// Takes the next bytes and returns the text that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut left = &all[..];
        loop {
            match std::str::from_utf8(left) {
                Ok(valid) => {
                    self.keep_return(valid, &mut text);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = left.split_at(error.valid_up_to());
                    harmless(&String::from_utf8_lossy(valid), &mut text);
                    match error.error_len() {
                        // The beginning of a character: its other bytes come later.
                        None => {
                            self.rest = after.to_vec();
                            return text;
                        }
                        Some(bad) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            left = &after[bad..];
                        }
                    }
                }
            }
        }
    }

    /// Returns the rest of the text at the end of the stream.
    pub fn finish(&mut self) -> String {
        match std::mem::take(&mut self.rest)[..] {
            [] => String::new(),
            [b'\r'] => "^M".to_owned(),
            _ => char::REPLACEMENT_CHARACTER.to_string(),
        }
    }

    /// Holds back a carriage return at the end: it may be the first half of a line break.
    fn keep_return(&mut self, valid: &str, text: &mut String) {
        match valid.strip_suffix('\r') {
            Some(before) => {
                self.rest = vec![b'\r'];
                harmless(before, text);
            }
            None => harmless(valid, text),
        }
    }
}

fn harmless(text: &str, out: &mut String) {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            // Terminals show C0 controls in this form too: ^[ for escape.
            '\0'..='\x1f' => out.extend(['^', char::from(c as u8 + 0x40)]),
            '\x7f' => out.push_str("^?"),
            c if inert::acts(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(parts: &[&[u8]]) -> String {
        let mut sanitizer = Sanitizer::default();
        let mut text: String = parts.iter().map(|part| sanitizer.feed(part)).collect();
        text.push_str(&sanitizer.finish());
        text
    }

    #[test]
    fn text_is_unchanged() {
        assert_eq!(clean(&["añb🦀\tc\r\nd\n".as_bytes()]), "añb🦀\tc\nd\n");
    }

    #[test]
    fn controls_become_visible() {
        assert_eq!(clean(&[b"\x1b[2J\x07\rx\x7f"]), "^[[2J^G^Mx^?");
        assert_eq!(clean(&["\u{9b}31m \u{202e}".as_bytes()]), "\\u{9b}31m \\u{202e}");
    }

    #[test]
    fn characters_may_be_cut_anywhere() {
        let bytes = "é🦀\r\n".as_bytes();
        let parts: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(clean(&parts), "é🦀\n");
        assert_eq!(clean(&[b"\xff\xf0\x9f", b"a"]), "\u{fffd}\u{fffd}a");
        assert_eq!(clean(&[b"\xe2\x82"]), "\u{fffd}");
    }
}
