//! Corrects where the line editor prints lines above the prompt.
//!
//! In: the typed text and the cursor, each time they are drawn. Out: how far the cursor must move before a
//! line is printed, and the control sequence that the line must begin with. Must not know: the content of the
//! lines.
//!
//! Before it prints a line, the line editor moves to the first row of the typed text. It computes this row
//! from the number of bytes, without the prompt, which is wrong for long texts. If it moves up too few rows,
//! the line itself corrects that. If it would move up too many, the cursor moves down first; otherwise
//! earlier output would be erased.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reedline::{Highlighter, StyledText};
use unicode_width::UnicodeWidthStr;

/// The width of the prompt as the line editor computes it, in columns.
const RECKONED: usize = 3;

/// The width of the indicator before each line but the first, in columns.
const MORE: usize = 2;

/// The text that is being typed. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Typed(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    line: String,
    cursor: usize,
    /// Whether a line was printed since the text was drawn: the first line corrects the position.
    corrected: bool,
}

impl Typed {
    /// Returns how many rows the cursor must move down before the next line is printed, and what the line
    /// must begin with. `prompt` is the width of the prompt.
    pub fn correction(&self, prompt: usize, columns: usize) -> (usize, String) {
        let mut state = self.state();
        if std::mem::replace(&mut state.corrected, true) {
            return (0, String::new());
        }
        let (reckoned, real) =
            (reckoned(&state.line, columns), real(&state.line[..state.cursor], prompt, columns));
        match real.checked_sub(reckoned) {
            None => (reckoned - real, String::new()),
            Some(0) => (0, String::new()),
            Some(more) => (0, format!("\x1b[{more}A\r\x1b[J")),
        }
    }

    /// Returns the typed text and clears it.
    pub fn take(&self) -> String {
        std::mem::take(&mut *self.state()).line
    }

    fn drawn(&self, line: &str, cursor: usize) {
        let mut state = self.state();
        line.clone_into(&mut state.line);
        state.cursor = line.floor_char_boundary(cursor);
        state.corrected = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many rows above the cursor the line editor assumes the prompt.
fn reckoned(line: &str, columns: usize) -> usize {
    let rows = |(index, line): (usize, &str)| {
        let prompt = if index == 0 { RECKONED } else { 0 };
        (line.len() + prompt) / columns.max(1) + 1
    };
    line.lines().enumerate().map(rows).sum::<usize>().saturating_sub(1)
}

/// Returns how many rows above the cursor the prompt is.
fn real(before: &str, prompt: usize, columns: usize) -> usize {
    let rows = |(index, line): (usize, &str)| {
        let prompt = if index == 0 { prompt } else { MORE };
        (line.width() + prompt) / columns.max(1) + 1
    };
    before.split('\n').enumerate().map(rows).sum::<usize>() - 1
}

/// A highlighter that records the text and the cursor.
pub struct Watched<H>(pub H, pub Typed);

impl<H: Highlighter> Highlighter for Watched<H> {
    fn highlight(&self, line: &str, cursor: usize) -> StyledText {
        self.1.drawn(line, cursor);
        self.0.highlight(line, cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn correction(line: &str, cursor: usize) -> (usize, String) {
        let typed = Typed::default();
        typed.drawn(line, cursor);
        typed.correction(10, 80)
    }

    #[test]
    fn a_line_stands_where_the_prompt_does() {
        let none = (0, String::new());
        let up = (0, "\x1b[1A\r\x1b[J".to_owned());
        let down = (1, String::new());
        assert_eq!(correction("", 0), none);
        assert_eq!(correction("math", 4), none);
        // Only with the prompt is the text wider than the terminal.
        assert_eq!(correction(&"x".repeat(72), 72), up);
        assert_eq!(correction(&"x".repeat(100), 100), none);
        // The cursor is in the first of two rows; letters have several bytes.
        assert_eq!(correction(&"x".repeat(100), 5), down);
        assert_eq!(correction(&"é".repeat(60), 120), down);
        assert_eq!(correction(&format!("{}\ny", "x".repeat(75)), 77), up);
    }

    #[test]
    fn the_first_of_several_lines_corrects() {
        let typed = Typed::default();
        typed.drawn(&"x".repeat(72), 72);
        assert_ne!(typed.correction(10, 80), (0, String::new()));
        assert_eq!(typed.correction(10, 80), (0, String::new()));
        typed.drawn("", 0);
        assert_eq!(typed.correction(10, 80), (0, String::new()));
    }
}
