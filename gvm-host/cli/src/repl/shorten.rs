//! Shortens results that are too long for a terminal.
//!
//! In: a value and its type. Out: its text, or the beginning of its text with its size. Pure. Must not know:
//! the terminal. The caller uses this only for a terminal: a pipe gets the whole text.

use std::fmt::{self, Write};

use gvm_host::{List, Type, Value, limits, size_in_message, wave};

/// The longest text that is shown, in bytes: about twenty lines of a usual terminal.
const SHOWN: usize = 2 << 10;

/// Returns the value as text. If that is long, returns its beginning, and a line with the size of the value.
pub fn short(value: &Value, ty: &Type) -> String {
    let mut text = Beginning { text: String::new(), cut: false };
    // It fails when the text is full, so that the rest takes no time.
    let _ = wave::write(&mut text, value, ty);
    let Beginning { text, cut } = text;
    let mut text = wave::letters::whole(&text);
    if cut {
        let _ = write!(text, "\n… ({}; pipe the output to get all of it)", extent(value));
    }
    text
}

/// Returns the size of a value, and the number of its elements or characters.
fn extent(value: &Value) -> String {
    let size = limits::bytes(size_in_message(value));
    match value {
        Value::List(list) => format!("{size}, {} elements", List::len(list)),
        Value::String(text) => format!("{size}, {} characters", text.chars().count()),
        _ => size.to_string(),
    }
}

/// A writer that keeps the beginning of the text.
struct Beginning {
    text: String,
    cut: bool,
}

impl Write for Beginning {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = SHOWN - self.text.len();
        let end = more.floor_char_boundary(room.min(more.len()));
        self.text.push_str(&more[..end]);
        self.cut |= end < more.len();
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_short_is_whole() {
        assert_eq!(short(&Value::S32(3), &Type::S32), "3");
        let text = "é".repeat(200);
        assert_eq!(short(&Value::String(text.clone()), &Type::String), format!("\"{text}\""));
    }

    #[test]
    fn what_is_long_says_how_much_it_is() {
        let bytes = Value::List(List::U8(vec![7; 64 << 20].into()));
        let shown = short(&bytes, &Type::List(Arc::new(Type::U8)));
        assert!(shown.starts_with("[7, 7, "), "{shown}");
        assert!(
            shown.ends_with("\n… (64.0 MiB, 67108864 elements; pipe the output to get all of it)"),
            "{shown}"
        );
        assert!(shown.len() < SHOWN + 100);
        let text = short(&Value::String("é".repeat(5000)), &Type::String);
        assert!(text.ends_with("(9.8 KiB, 5000 characters; pipe the output to get all of it)"), "{text}");
        let list = Value::List(List::Values(vec![Value::Bool(true); 5000]));
        let shown = short(&list, &Type::List(Arc::new(Type::Bool)));
        assert!(shown.contains("5000 elements"), "{shown}");
    }
}
