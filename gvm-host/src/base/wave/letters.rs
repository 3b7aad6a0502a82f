//! WAVE text for people: shows combining marks, which WAVE escapes, as part of their letters.
//!
//! In: WAVE as it is written for programs, where every such mark is an escape. Out: WAVE that parses as the
//! same value and shows words without escapes. Pure. Must not know: values.

/// Replaces the escapes of accents, vowel signs and emoji joiners after a matching character by the characters
/// themselves: `e\u{301}` becomes é. Characters that are invisible, or change the text around them, stay escaped.
pub fn whole(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    let mut before = None;
    while let Some(c) = rest.chars().next() {
        let escape = escape(rest);
        let taken = escape.map_or(c.len_utf8(), |(_, length)| length);
        let (this, following) = rest.split_at(taken);
        let after = || self::escape(following).map_or(following.chars().next(), |(mark, _)| mark);
        match escape {
            Some((Some(mark), _)) if joins(before, mark, after()) => {
                shown.push(mark);
                before = Some(mark);
            }
            Some(_) => {
                shown.push_str(this);
                before = None;
            }
            None => {
                shown.push(c);
                before = Some(c);
            }
        }
        rest = following;
    }
    shown
}

/// Returns the escape at the beginning of the text: the character of `\u{…}`, and the length in bytes.
fn escape(text: &str) -> Option<(Option<char>, usize)> {
    let behind = text.strip_prefix('\\')?;
    let unicode = || {
        let digits = behind.strip_prefix("u{")?.split_once('}')?.0;
        let mark = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
        Some((Some(mark), digits.len() + "\\u{}".len()))
    };
    unicode().or_else(|| Some((None, 1 + behind.chars().next().map_or(0, char::len_utf8))))
}

/// Returns whether a character is part of the letter or emoji before it.
fn joins(before: Option<char>, c: char, after: Option<char>) -> bool {
    const JOINER: char = '\u{200d}';
    let is_tag = ('\u{e0000}'..='\u{e0fff}').contains(&c);
    match before {
        None | Some('"' | '\'') => false,
        Some(_) if is_tag => false,
        Some(before) if c == JOINER => !before.is_ascii() && after.is_some_and(|after| !after.is_ascii()),
        // The standard library does not escape these after another letter.
        Some(_) => ['a', c].iter().collect::<String>().escape_debug().eq(['a', c]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::value::{Type, Value};
    use crate::base::wave::{parse, print};

    fn shown(text: &str) -> String {
        whole(&print(&Value::String(text.into()), &Type::String))
    }

    #[test]
    fn letters_stay_whole() {
        for text in ["नमस्ते", "e\u{301}", "👨\u{200d}👩\u{200d}👧", "❤\u{fe0f}", "❤\u{fe0f}\u{200d}🔥", "สวัสดี"]
        {
            assert_eq!(shown(text), format!("\"{text}\""));
            assert_eq!(parse(&shown(text), &Type::String).unwrap(), Value::String(text.into()));
        }
    }

    #[test]
    fn invisible_characters_stay_escaped() {
        for (text, wave) in [
            ("\u{301}a", "\\u{301}a"),
            ("a\u{200d}b", "a\\u{200d}b"),
            ("a\u{200b}b", "a\\u{200b}b"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\u{e0041}", "a\\u{e0041}"),
            ("é\u{200d}", "é\\u{200d}"),
            ("\u{1b}[2J\n\\u{301}", "\\u{1b}[2J\\n\\\\u{301}"),
            ("\"\u{301}'", "\\\"\\u{301}\\'"),
        ] {
            assert_eq!(shown(text), format!("\"{wave}\""));
            assert_eq!(parse(&shown(text), &Type::String).unwrap(), Value::String(text.into()));
        }
        for text in ["\\", "\\u", "\\u{", "\\u{}", "\\u{110000}", "a\\u{301"] {
            assert_eq!(whole(text), text);
        }
    }
}
