//! Lines above the prompt while something is being typed that is wider than the terminal.
//!
//! In: what is typed, and where the cursor is in it, whenever it is drawn. Out: what a line has to begin with
//! so that it stands where the prompt does. Must not know: what the lines say.
//!
//! The line editor moves to the first row of what is typed before it prints a line, and reckons that row
//! from the bytes typed, without the prompt. Where that is wrong a line corrects it itself. (Where it moves
//! too far up it has blanked that row already: a line of earlier output is lost on the screen.)

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
    /// What the next line above has to begin with. `prompt` is the prompt's width.
    pub fn correction(&self, prompt: usize, columns: usize) -> String {
        let mut state = self.state();
        if std::mem::replace(&mut state.corrected, true) {
            return String::new();
        }
        let (reckoned, real) =
            (reckoned(&state.line, columns), real(&state.line[..state.cursor], prompt, columns));
        match reckoned.cmp(&real) {
            std::cmp::Ordering::Less => format!("\x1b[{}A\r\x1b[J", real - reckoned),
            std::cmp::Ordering::Equal => String::new(),
            std::cmp::Ordering::Greater => format!("\x1b[{}B\r\x1b[J", reckoned - real),
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

    fn correction(line: &str, cursor: usize) -> String {
        let typed = Typed::default();
        typed.drawn(line, cursor);
        typed.correction(10, 80)
    }

    #[test]
    fn a_line_stands_where_the_prompt_does() {
        assert_eq!(correction("", 0), "");
        assert_eq!(correction("math", 4), "");
        // The prompt makes it wider than the terminal, which the line editor does not see.
        assert_eq!(correction(&"x".repeat(72), 72), "\x1b[1A\r\x1b[J");
        assert_eq!(correction(&"x".repeat(100), 100), "");
        // The cursor stands in the first row of two, and letters are not bytes.
        assert_eq!(correction(&"x".repeat(100), 5), "\x1b[1B\r\x1b[J");
        assert_eq!(correction(&"é".repeat(60), 120), "\x1b[1B\r\x1b[J");
        assert_eq!(correction(&format!("{}\ny", "x".repeat(75)), 77), "\x1b[1A\r\x1b[J");
    }

    #[test]
    fn the_first_of_several_lines_corrects() {
        let typed = Typed::default();
        typed.drawn(&"x".repeat(72), 72);
        assert_ne!(typed.correction(10, 80), "");
        assert_eq!(typed.correction(10, 80), "");
        typed.drawn("", 0);
        assert_eq!(typed.correction(10, 80), "");
    }
}
