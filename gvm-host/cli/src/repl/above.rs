//! Lines above the prompt while something is being typed that is wider than the terminal.
//!
//! In: what is typed, and where the cursor is in it, whenever it is drawn. Out: where the cursor has to be before
//! a line, and what the line has to begin with, so that it stands where the prompt does. Must not know: what the
//! lines say.
//!
//! The line editor moves to the first row of what is typed before it prints a line, and reckons that row
//! from the bytes typed, without the prompt. Where that is too few rows the line corrects it itself; where it is
//! too many the cursor is moved down first, or a row of earlier output would be blanked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reedline::{Highlighter, StyledText};
use unicode_width::UnicodeWidthStr;

/// What the line editor takes the prompt for, in columns.
const RECKONED: usize = 3;

/// What begins every line but the first, in columns.
const MORE: usize = 2;

/// What is typed now. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Typed(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    line: String,
    cursor: usize,
    /// Whether lines have been sent since it was drawn: the first one has corrected the place.
    corrected: bool,
}

impl Typed {
    /// How many rows down the cursor has to be moved before the next line above, and what that line has to begin
    /// with. `prompt` is the prompt's width.
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

    /// What is typed, which is dropped.
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

/// How many rows above the cursor the line editor takes the prompt to begin.
fn reckoned(line: &str, columns: usize) -> usize {
    let rows = |(index, line): (usize, &str)| {
        let prompt = if index == 0 { RECKONED } else { 0 };
        (line.len() + prompt) / columns.max(1) + 1
    };
    line.lines().enumerate().map(rows).sum::<usize>().saturating_sub(1)
}

/// How many rows above the cursor it does begin.
fn real(before: &str, prompt: usize, columns: usize) -> usize {
    let rows = |(index, line): (usize, &str)| {
        let prompt = if index == 0 { prompt } else { MORE };
        (line.width() + prompt) / columns.max(1) + 1
    };
    before.split('\n').enumerate().map(rows).sum::<usize>() - 1
}

/// A highlighter that remembers what it was given.
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
        // The prompt makes it wider than the terminal, which the line editor does not see.
        assert_eq!(correction(&"x".repeat(72), 72), up);
        assert_eq!(correction(&"x".repeat(100), 100), none);
        // The cursor stands in the first row of two, and letters are not bytes.
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
