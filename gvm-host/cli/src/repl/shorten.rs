//! Results that are too long for a person.
//!
//! In: a value and its type. Out: its text, or the beginning of it with how much there is. Only for a
//! terminal: a pipe gets the whole. Pure. Must not know: the terminal.

use std::fmt::{self, Write};

use gvm_host::internals::wire;
use gvm_host::wave;
use gvm_host::{List, Type, Value};

/// What is shown of a result: about twenty lines of a usual terminal. In bytes.
const SHOWN: usize = 2 << 10;

/// The value as text; where that is long, its beginning and a line that says how much there is.
pub fn short(value: &Value, ty: &Type) -> String {
    let mut text = Beginning { text: String::new(), cut: false };
    // It fails where the text is full, so that no time goes into what nobody sees.
    let _ = wave::write(&mut text, value, ty);
    let Beginning { text, cut } = text;
    let mut text = wave::letters::whole(&text);
    if cut {
        let _ = write!(text, "\n… ({}; whole when piped)", extent(value));
    }
    text
}

/// How much a value is: its size, and what it holds where that can be counted.
fn extent(value: &Value) -> String {
    let size = bytesize::ByteSize(wire::value::size(value)).display().iec();
    match value {
        Value::List(list) => format!("{size}, {} elements", List::len(list)),
        Value::String(text) => format!("{size}, {} characters", text.chars().count()),
        _ => size.to_string(),
    }
}

/// The beginning of what is written.
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
        let bytes = Value::List(List::U8(vec![7; 64 << 20]));
        let shown = short(&bytes, &Type::List(Arc::new(Type::U8)));
        assert!(shown.starts_with("[7, 7, "), "{shown}");
        assert!(shown.ends_with("\n… (64.0 MiB, 67108864 elements; whole when piped)"), "{shown}");
        assert!(shown.len() < SHOWN + 100);
        let text = short(&Value::String("é".repeat(5000)), &Type::String);
        assert!(text.ends_with("(9.8 KiB, 5000 characters; whole when piped)"), "{text}");
        let list = Value::List(List::Values(vec![Value::Bool(true); 5000]));
        let shown = short(&list, &Type::List(Arc::new(Type::Bool)));
        assert!(shown.contains("5000 elements"), "{shown}");
    }
}
