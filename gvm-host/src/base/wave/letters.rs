//! WAVE text for people: marks that belong to the letter before them stand as they are.
//!
//! In: WAVE as it is written for programs, where every such mark is escaped. Out: text that reads back as the
//! same value and shows words whole. Must not know: values.

/// Puts accents, vowel signs and what joins pictures in the place of their escapes, behind a letter that takes
/// them: `e\u{301}` is é. What would not be seen, or change what stands around it, stays escaped.
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

/// The escape that the text begins with: what `\\u{…}` stands for, and how many bytes it takes.
fn escape(text: &str) -> Option<(Option<char>, usize)> {
    let behind = text.strip_prefix('\\')?;
    let unicode = || {
        let digits = behind.strip_prefix("u{")?.split_once('}')?.0;
        let mark = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
        Some((Some(mark), digits.len() + "\\u{}".len()))
    };
    unicode().or_else(|| Some((None, 1 + behind.chars().next().map_or(0, char::len_utf8))))
}

/// Whether a character is part of the letter or the picture before it.
fn joins(before: Option<char>, c: char, after: Option<char>) -> bool {
    const JOINER: char = '\u{200d}';
    let is_tag = ('\u{e0000}'..='\u{e0fff}').contains(&c);
    match before {
        None | Some('"' | '\'') => false,
        Some(_) if is_tag => false,
        Some(before) if c == JOINER => !before.is_ascii() && after.is_some_and(|after| !after.is_ascii()),
        // The standard library leaves these as they are behind another letter.
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
    fn what_would_not_be_seen_is_written_out() {
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
