//! Events: changes that a node reports without being asked.
//!
//! In: what a node notices. Out: one value for every listener, and its JSON form, which the REPL, scripts and
//! Python share. Must not know: how a node notices a change, how an event is shown.

use serde_json::{Value as Json, json};

use crate::base::device::NodeName;

/// A change that a node reports without being asked. Plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A node connected to this one.
    Connected { name: NodeName },
    /// The connection to a node ended, and why.
    Down { name: NodeName, why: String },
    /// The connection to gpmd ended. Calls and connections between nodes continue.
    GpmdLost,
    /// gpmd is back and has registered this node again.
    GpmdBack,
    /// gpmd is back and refuses to register this node again. The node keeps trying.
    GpmdRefused { why: String },
    /// A node asks to connect, and the accept policy is to ask a person. `Handle::answer` answers the question
    /// with this id. If nobody listens for questions (`Handle::answering`), the node is denied.
    Asked { id: u64, name: NodeName },
    /// A question is closed. `allowed` is the answer of a person, if there was one.
    AskEnded { id: u64, name: NodeName, allowed: Option<bool>, why: String },
    /// This node asked to connect, and waits for a person at the other node to answer.
    Waiting { name: NodeName },
    /// This node is shutting down and waits for this many calls to end. `Handle::hurry` cancels them.
    Leaving { calls: usize },
}

impl Event {
    /// Returns the kind of the event: the member `event` of its JSON.
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

    /// Returns the other node that the event is about, if there is one.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Event::Connected { name }
            | Event::Down { name, .. }
            | Event::Asked { name, .. }
            | Event::AskEnded { name, .. }
            | Event::Waiting { name } => Some(name),
            Event::GpmdLost | Event::GpmdBack | Event::GpmdRefused { .. } | Event::Leaving { .. } => None,
        }
    }

    /// Returns the number of the event with its JSON name: the `id` of a question, or the `calls` that still run.
    pub fn number(&self) -> Option<(&'static str, u64)> {
        match self {
            Event::Asked { id, .. } | Event::AskEnded { id, .. } => Some(("id", *id)),
            Event::Leaving { calls } => Some(("calls", *calls as u64)),
            _ => None,
        }
    }

    /// Returns why it happened, if that is known.
    pub fn why(&self) -> Option<&str> {
        match self {
            Event::Down { why, .. } | Event::GpmdRefused { why } | Event::AskEnded { why, .. } => Some(why),
            _ => None,
        }
    }

    /// Returns the event as `--json` prints it. Every event has the member `event`, which no result has.
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
    fn every_event_has_a_kind_of_its_own() {
        let name: NodeName = "a".parse().unwrap();
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
