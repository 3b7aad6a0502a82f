//! Shows the events of a node, and matches typed lines with its questions.
//!
//! In: events, typed lines. Out: text for the screen, JSON, answers. Pure. Must not know: terminals, where
//! answers go.

use std::collections::VecDeque;

use serde_json::{Value as Json, json};

use gvm_host::{Event, NodeInfo, NodeName};

/// Returns the text for an event. `None` for events that are shown in another way: questions by
/// [`Questions`], waiting by the caller that connects.
pub fn words(event: &Event) -> Option<String> {
    Some(match event {
        Event::Connected { name } => format!("[{name} connected]"),
        Event::Down { name, why } => format!("[{name} is gone: {why}]"),
        Event::GpmdLost => "[gpmd is not reachable; calls and connections continue without it]".to_owned(),
        Event::GpmdBack => "[gpmd is reachable again]".to_owned(),
        Event::GpmdRefused { why } => format!("[gpmd is reachable again, but refuses this node: {why}]"),
        Event::Leaving { calls: 1 } => "[waiting for 1 call to end; press Ctrl-C to stop it]".to_owned(),
        Event::Leaving { calls } => format!("[waiting for {calls} calls to end; press Ctrl-C to stop them]"),
        // Also events that later versions of the library add.
        _ => return None,
    })
}

/// Returns the first line of `gvm serve --json`.
pub fn started(node: &NodeInfo) -> Json {
    json!({ "event": "started", "node": node.name.as_str(), "id": node.id.to_string() })
}

/// Returns the note for a user who waits until the user of another node answers.
pub fn waiting(name: &NodeName) -> String {
    format!("waiting for the user of {name} to accept; press Ctrl-C to cancel")
}

/// The nodes that wait for an answer of the user, in the order of their requests. One question is open at a
/// time; it is shown above the prompt, so that the typed text stays. The next line that can be an answer is
/// the answer. The next question is shown when the event about this answer arrives.
#[derive(Debug, Default)]
pub struct Questions {
    waiting: VecDeque<(u64, NodeName)>,
    /// The question that was answered, until the event about its end arrives.
    answered: Option<u64>,
}

/// An answer of the user.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub id: u64,
    pub yes: bool,
}

impl Questions {
    /// Handles an event. Returns the text to show.
    pub fn hear(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Asked { id, name } => {
                self.waiting.push_back((*id, name.clone()));
                (self.waiting.len() == 1).then(|| self.open()).flatten()
            }
            Event::AskEnded { id, name, allowed, why } => {
                let place = self.waiting.iter().position(|(open, _)| open == id);
                self.answered = self.answered.filter(|answered| answered != id);
                let ended = match (place, *allowed) {
                    (_, Some(true)) => None,
                    (_, Some(false)) => Some(format!("[{name} was denied]")),
                    (place, None) => place.map(|_| format!("[{name} no longer waits: {why}]")),
                };
                if let Some(place) = place {
                    self.waiting.remove(place);
                }
                let next = if place == Some(0) { self.open() } else { None };
                let lines: Vec<String> = ended.into_iter().chain(next).collect();
                (!lines.is_empty()).then(|| lines.join("\n"))
            }
            other => words(other),
        }
    }

    /// Returns whether no node waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.waiting.iter().all(|(id, _)| self.answered == Some(*id))
    }

    /// Returns the text of the open question.
    pub fn open(&self) -> Option<String> {
        let (_, name) = self.front()?;
        Some(format!("{name} wants to connect. Allow? [y/N]"))
    }

    /// Returns the answer, if there is an open question and the line answers it. An empty line means no.
    pub fn answer(&mut self, line: &str) -> Option<Answer> {
        let yes = match line.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => true,
            "" | "n" | "no" => false,
            _ => return None,
        };
        let id = self.front()?.0;
        self.answered = Some(id);
        Some(Answer { id, yes })
    }

    /// Removes a question whose answer came too late.
    pub fn forget(&mut self, id: u64) {
        self.waiting.retain(|(open, _)| *open != id);
        self.answered = self.answered.filter(|answered| *answered != id);
    }

    fn front(&self) -> Option<&(u64, NodeName)> {
        self.waiting.front().filter(|(id, _)| self.answered != Some(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(id: u64, name: &str) -> Event {
        Event::Asked { id, name: name.parse().unwrap() }
    }

    fn ended(id: u64, name: &str, why: &str) -> Event {
        let allowed = match why {
            "allowed" => Some(true),
            "denied" => Some(false),
            _ => None,
        };
        Event::AskEnded { id, name: name.parse().unwrap(), allowed, why: why.into() }
    }

    #[test]
    fn askers_queue() {
        let mut questions = Questions::default();
        assert_eq!(questions.answer("y"), None, "nobody asked");
        assert_eq!(questions.hear(&asked(1, "a")).unwrap(), "a wants to connect. Allow? [y/N]");
        assert_eq!(questions.hear(&asked(2, "b")), None);
        assert_eq!(questions.hear(&asked(3, "c")), None);
        assert_eq!(questions.answer("math.add(1,2)"), None, "a statement is none");
        assert_eq!(questions.answer(" Y "), Some(Answer { id: 1, yes: true }));
        assert_eq!((questions.open(), questions.answer("y")), (None, None), "its end has not been heard");
        assert_eq!(questions.hear(&ended(1, "a", "allowed")).unwrap(), "b wants to connect. Allow? [y/N]");
        assert_eq!(questions.hear(&ended(3, "c", "it left")).unwrap(), "[c no longer waits: it left]");
        assert_eq!(questions.answer(""), Some(Answer { id: 2, yes: false }));
        assert_eq!(questions.hear(&ended(2, "b", "denied")).unwrap(), "[b was denied]");
        assert_eq!(questions.answer("n"), None);
        questions.hear(&asked(4, "d"));
        assert_eq!(questions.answer("y"), Some(Answer { id: 4, yes: true }));
        questions.forget(4);
        assert!(questions.hear(&asked(5, "e")).is_some());
    }

    #[test]
    fn who_does_not_wait_any_more_makes_room() {
        let mut questions = Questions::default();
        questions.hear(&asked(1, "a"));
        questions.hear(&asked(2, "b"));
        let shown = questions.hear(&ended(1, "a", "it left")).unwrap();
        assert_eq!(shown, "[a no longer waits: it left]\nb wants to connect. Allow? [y/N]");
        assert_eq!(questions.answer("yes"), Some(Answer { id: 2, yes: true }));
    }
}
