//! Keys that come together with one that ends the line: pasted, or typed faster than they are read.
//!
//! In: the terminal's events. Out: what the line editor does of each; what was typed behind the end of a line,
//! which the line editor would drop, for the next one. Must not know: what the lines mean.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reedline::{EditCommand, EditMode, Emacs, PromptEditMode, ReedlineEvent, ReedlineRawEvent};

/// What was typed behind the end of a line. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Behind(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Whether a key has ended the line, and none has been waited for since.
    ended: bool,
    text: String,
}

impl Behind {
    /// Another key is waited for: whatever was to end the line has ended it, or did not.
    pub fn waits(&self) {
        self.state().ended = false;
    }

    /// What is to be the beginning of the next line.
    pub fn take(&self) -> String {
        let mut state = self.state();
        state.ended = false;
        std::mem::take(&mut state.text)
    }

    /// The next line, where it is whole; without its end.
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

/// The usual keys, of which none is lost.
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
        // A key that was to end the line and did not.
        press(KeyCode::Enter, none);
        behind.waits();
        assert_ne!(press(KeyCode::Char('e'), none), ReedlineEvent::None);
    }
}
