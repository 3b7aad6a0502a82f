//! What happens to a node, for people and for programs; and the questions among it.
//!
//! In: events. Out: lines above the prompt, JSON for scripts, what a typed line answers. Pure. Must not
//! know: terminals, how an answer is handed on.

use std::collections::VecDeque;

use serde_json::{Value as Json, json};

use gvm_host::Event;
use gvm_host::{Name, NodeInfo};

/// An event in words; none where it is told otherwise: questions by [`Questions`], waiting by whoever waits.
pub fn words(event: &Event) -> Option<String> {
    Some(match event {
        Event::Connected { name } => format!("[{name} connected]"),
        Event::Down { name, why } => format!("[{name} is gone: {why}]"),
        Event::GpmdLost => "[gpmd is gone; calls and connections go on without it]".to_owned(),
        Event::GpmdBack => "[gpmd is back]".to_owned(),
        Event::GpmdRefused { why } => format!("[gpmd is back and refuses this node: {why}]"),
        Event::Leaving { calls: 1 } => "[waiting for a call to end; Ctrl-C stops it]".to_owned(),
        Event::Leaving { calls } => format!("[waiting for {calls} calls to end; Ctrl-C stops them]"),
        // Also those of later versions of the library.
        _ => return None,
    })
}

/// What a node that nobody types at says first.
pub fn started(node: &NodeInfo) -> Json {
    json!({ "event": "started", "node": node.name.as_str(), "id": node.id.to_string() })
}

/// What this side tells a person who waits for another.
pub fn waiting(name: &Name) -> String {
    format!("{name} asks its person whether to accept; Ctrl-C stops waiting")
}

/// The nodes that wait for a person's answer, in the order in which they asked. One is asked about at a
/// time, above the prompt, so that what is being typed stays as it is; the next line that can be an answer
/// is one. The next question comes when what came of the answer has been heard.
#[derive(Debug, Default)]
pub struct Questions {
    waiting: VecDeque<(u64, Name)>,
    /// The question that has been answered, until its end is heard.
    answered: Option<u64>,
}

/// What a person answered.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub id: u64,
    pub yes: bool,
}

impl Questions {
    /// Takes in an event; says what is to be shown of it.
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
                    (_, Some(false)) => Some(format!("[{name} is denied]")),
                    (place, None) => place.map(|_| format!("[{name} does not wait any more: {why}]")),
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

    /// Whether nobody waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.waiting.iter().all(|(id, _)| self.answered == Some(*id))
    }

    /// The question that is open, in words.
    pub fn open(&self) -> Option<String> {
        let (_, name) = self.front()?;
        Some(format!("{name} wants to connect. Allow? [y/N]"))
    }

    /// Takes a typed line as the answer to the open question, where it is one: an empty line is a no.
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

    /// Takes back a question whose answer came too late.
    pub fn forget(&mut self, id: u64) {
        self.waiting.retain(|(open, _)| *open != id);
        self.answered = self.answered.filter(|answered| *answered != id);
    }

    fn front(&self) -> Option<&(u64, Name)> {
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
        assert_eq!(questions.hear(&ended(3, "c", "it left")).unwrap(), "[c does not wait any more: it left]");
        assert_eq!(questions.answer(""), Some(Answer { id: 2, yes: false }));
        assert_eq!(questions.hear(&ended(2, "b", "denied")).unwrap(), "[b is denied]");
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
        assert_eq!(shown, "[a does not wait any more: it left]\nb wants to connect. Allow? [y/N]");
        assert_eq!(questions.answer("yes"), Some(Answer { id: 2, yes: true }));
    }
}
