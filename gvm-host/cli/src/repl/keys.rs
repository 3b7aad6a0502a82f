//! Keeps keys that arrive together with the key that ends a line: pasted, or typed faster than they are read.
//!
//! In: events of the terminal. Out: events for the line editor; the text after the end of the line, which the
//! line editor would lose, for the next line. Must not know: what the lines mean.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reedline::{EditCommand, EditMode, Emacs, PromptEditMode, ReedlineEvent, ReedlineRawEvent};

/// The text that was typed after the end of a line. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Behind(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Whether a key has ended the line, and the line editor has not waited for a key since.
    ended: bool,
    text: String,
}

impl Behind {
    /// Records that the line editor waits for a key: the last key has taken effect.
    pub fn waits(&self) {
        self.state().ended = false;
    }

    /// Returns the beginning of the next line.
    pub fn take(&self) -> String {
        let mut state = self.state();
        state.ended = false;
        std::mem::take(&mut state.text)
    }

    /// Returns the next line without its line feed, if it is complete.
    pub fn take_line(&self) -> Option<String> {
        let mut state = self.state();
        let end = state.text.find('\n')?;
        state.ended = false;
        let line = state.text.drain(..=end).take(end).collect();
        Some(line)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The usual key bindings, which lose no key.
pub struct Keys(pub Emacs, pub Behind);

impl EditMode for Keys {
    fn parse_event(&mut self, event: ReedlineRawEvent) -> ReedlineEvent {
        let parsed = self.0.parse_event(event);
        let mut state = self.1.state();
        if !state.ended {
            state.ended = matches!(parsed, ReedlineEvent::CtrlC | ReedlineEvent::Enter);
            return parsed;
        }
        match parsed {
            ReedlineEvent::Edit(edits) => edits.into_iter().for_each(|edit| match edit {
                EditCommand::InsertChar(c) => state.text.push(c),
                EditCommand::InsertString(text) => state.text.push_str(&text),
                EditCommand::Backspace => drop(state.text.pop()),
                _ => {}
            }),
            ReedlineEvent::Enter => state.text.push('\n'),
            ReedlineEvent::CtrlC => state.text.clear(),
            _ => {}
        }
        ReedlineEvent::None
    }

    fn edit_mode(&self) -> PromptEditMode {
        self.0.edit_mode()
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
    use reedline::default_emacs_keybindings;

    use super::*;

    #[test]
    fn what_stands_behind_the_end_is_kept() {
        let behind = Behind::default();
        let mut keys = Keys(Emacs::new(default_emacs_keybindings()), behind.clone());
        let mut press = |code, modifiers| {
            let event = Event::Key(KeyEvent::new(code, modifiers));
            keys.parse_event(ReedlineRawEvent::try_from(event).unwrap_or_else(|()| panic!("a key")))
        };
        let none = KeyModifiers::NONE;
        assert_ne!(press(KeyCode::Char('a'), none), ReedlineEvent::None);
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), ReedlineEvent::CtrlC);
        for c in ['b', 'x'] {
            assert_eq!(press(KeyCode::Char(c), none), ReedlineEvent::None);
        }
        press(KeyCode::Backspace, none);
        press(KeyCode::Enter, none);
        press(KeyCode::Char('d'), none);
        assert_eq!((behind.take_line(), behind.take_line()), (Some("b".into()), None));
        assert_eq!((behind.take(), behind.take()), ("d".into(), String::new()));
        // Enter that did not end the line.
        press(KeyCode::Enter, none);
        behind.waits();
        assert_ne!(press(KeyCode::Char('e'), none), ReedlineEvent::None);
    }
}
