//! What happens to a node that nobody asked it for.
//!
//! In: what a node notices. Out: one value for every listener, and its JSON form, which the REPL, scripts and
//! Python share. Must not know: how a node notices, how a person is told.

use serde_json::{Value as Json, json};

use crate::base::id::Name;

/// What happened to a node without its asking.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A node connected with this one.
    Connected { name: Name },
    /// A connected node is no more, and why.
    Down { name: Name, why: String },
    /// gpmd went away; calls and connections go on without it.
    GpmdLost,
    /// gpmd is back and knows this node again.
    GpmdBack,
    /// gpmd is back and does not take this node again; it goes on asking.
    GpmdRefused { why: String },
    /// A node asks to connect, and the accept policy is to ask a person. `Handle::answer` answers, by the
    /// question's id; where nobody does (`Handle::answering`), the node is denied.
    Asked { id: u64, name: Name },
    /// A question is no longer open. `allowed` is the answer of a person, if there was one.
    AskEnded { id: u64, name: Name, allowed: Option<bool>, why: String },
    /// This node asked to connect, and waits for the person there to answer.
    Waiting { name: Name },
    /// This node is being shut down, and waits for so many calls to end; `Handle::hurry` takes them back.
    Leaving { calls: usize },
}

impl Event {
    /// What kind of event it is: the member `event` of its JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Connected { .. } => "connected",
            Event::Down { .. } => "down",
            Event::GpmdLost => "gpmd-lost",
            Event::GpmdBack => "gpmd-back",
            Event::GpmdRefused { .. } => "gpmd-refused",
            Event::Asked { .. } => "asked",
            Event::AskEnded { .. } => "ask-ended",
            Event::Waiting { .. } => "waiting",
            Event::Leaving { .. } => "leaving",
        }
    }

    /// The other node that it is about, where there is one.
    pub fn node(&self) -> Option<&Name> {
        match self {
            Event::Connected { name }
            | Event::Down { name, .. }
            | Event::Asked { name, .. }
            | Event::AskEnded { name, .. }
            | Event::Waiting { name } => Some(name),
            Event::GpmdLost | Event::GpmdBack | Event::GpmdRefused { .. } | Event::Leaving { .. } => None,
        }
    }

    /// The number that belongs to it and what it counts: `id` of a question, `calls` that are waited for.
    pub fn number(&self) -> Option<(&'static str, u64)> {
        match self {
            Event::Asked { id, .. } | Event::AskEnded { id, .. } => Some(("id", *id)),
            Event::Leaving { calls } => Some(("calls", *calls as u64)),
            _ => None,
        }
    }

    /// Why it happened, where that is known.
    pub fn why(&self) -> Option<&str> {
        match self {
            Event::Down { why, .. } | Event::GpmdRefused { why } | Event::AskEnded { why, .. } => Some(why),
            _ => None,
        }
    }

    /// An event as `--json` gives it. Every event has the member `event`, which no result has.
    pub fn to_json(&self) -> Json {
        let mut line = json!({ "event": self.kind() });
        if let Some(node) = self.node() {
            line["node"] = node.as_str().into();
        }
        if let Some((name, number)) = self.number() {
            line[name] = number.into();
        }
        if let Some(why) = self.why() {
            line["why"] = why.into();
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_can_be_told_from_a_result() {
        let name: Name = "a".parse().unwrap();
        let events = [
            Event::Connected { name: name.clone() },
            Event::Down { name: name.clone(), why: "x".into() },
            Event::GpmdLost,
            Event::GpmdBack,
            Event::GpmdRefused { why: "x".into() },
            Event::Asked { id: 1, name: name.clone() },
            Event::AskEnded { id: 1, name: name.clone(), allowed: None, why: "x".into() },
            Event::Waiting { name },
            Event::Leaving { calls: 2 },
        ];
        let kinds: std::collections::BTreeSet<String> =
            events.iter().map(|event| event.to_json()["event"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds.len(), events.len());
    }
}
