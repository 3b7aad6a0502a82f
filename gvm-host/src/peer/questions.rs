//! Asks a person whether a node may connect.
//!
//! In: nodes that want to connect, a person's answers. Out: events when a question is asked and when it ends;
//! yes, or a denial. If no person is there to answer, every node is denied at once. Must not know: how a
//! person is asked.
//!
//! Belongs to the node's thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{broadcast, oneshot};
use tokio::time::timeout;

use super::accept::denied;
use crate::base::device::NodeName;
use crate::base::error::{Code, Error, Reason, Result};
use crate::base::event::Event;

/// How long a person has to answer: a minute, because they may be typing or waiting for a call.
pub const ANSWER: Duration = Duration::from_secs(60);

/// The most nodes that wait for an answer at once; more are denied.
const MOST: usize = 16;

/// Counts the parts of this process that answer questions. Clones share one count; `Send + Sync`.
#[derive(Clone, Debug, Default)]
pub struct Answerers(Arc<AtomicUsize>);

/// One answerer; it counts until this is dropped.
#[derive(Debug)]
pub struct Answering(Answerers);

impl Answerers {
    /// Adds one answerer.
    pub fn join(&self) -> Answering {
        self.0.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The open questions.
pub struct Questions {
    me: NodeName,
    open: RefCell<BTreeMap<u64, (NodeName, oneshot::Sender<bool>)>>,
    last: Cell<u64>,
    events: broadcast::Sender<Event>,
    answerers: Answerers,
    patience: Duration,
}

impl Questions {
    /// Creates the questions of the node `me`.
    pub fn new(me: NodeName, events: broadcast::Sender<Event>, answerers: Answerers) -> Questions {
        let open = RefCell::default();
        Questions { me, open, last: Cell::new(0), events, answerers, patience: ANSWER }
    }

    /// Whether a node that asks will have to wait for a person.
    pub fn waits(&self) -> bool {
        self.answerers.any()
    }

    /// Asks whether the node with this name may connect. Dropping the future cancels the question.
    ///
    /// # Errors
    /// `CONNECTION_DENIED`.
    pub async fn ask(&self, asking: &NodeName) -> Result<()> {
        let me = &self.me;
        if self.open.borrow().values().any(|(name, _)| name == asking) {
            return Err(denied(format!("the person at `{me}` is already being asked about `{asking}`")));
        }
        if self.open.borrow().len() >= MOST {
            return Err(denied(format!("{MOST} nodes already wait for an answer of the person at `{me}`"))
                .with_help("wait and try again"));
        }
        let id = self.last.get() + 1;
        self.last.set(id);
        let (reply, answer) = oneshot::channel();
        self.open.borrow_mut().insert(id, (asking.clone(), reply));
        let _ = self.events.send(Event::Asked { id, name: asking.clone() });
        let mut open =
            Open { questions: self, id, name: asking, allowed: None, why: "the node cancelled its request" };
        if !self.answerers.any() {
            open.why = "no one is there to answer";
            let denied = denied(format!(
                "`{me}` asks a person before it accepts a node, and no one is there to answer"
            ));
            let help = format!("start `{me}` at a terminal, or with another `--accept` policy");
            return Err(denied.with_reason(Reason::Unanswered).with_help(help));
        }
        match timeout(self.patience, answer).await {
            Ok(Ok(true)) => {
                (open.allowed, open.why) = (Some(true), "allowed");
                Ok(())
            }
            Ok(_) => {
                (open.allowed, open.why) = (Some(false), "denied");
                Err(denied(format!("the person at `{me}` denied `{asking}`")))
            }
            Err(_) => {
                open.why = "no one answered in time";
                let most = humantime::format_duration(self.patience);
                let denied = denied(format!("the person at `{me}` did not answer within {most}"));
                Err(denied.with_reason(Reason::Unanswered))
            }
        }
    }

    /// Answers an open question.
    ///
    /// # Errors
    /// `NODE_NOT_FOUND` if the question is no longer open.
    pub fn answer(&self, id: u64, yes: bool) -> Result<()> {
        let open = self.open.borrow_mut().remove(&id);
        let answered = open.is_some_and(|(_, reply)| reply.send(yes).is_ok());
        match answered {
            true => Ok(()),
            false => Err(Error::new(Code::NodeNotFound, "the node no longer waits for an answer")),
        }
    }
}

/// An open question; it ends when this is dropped.
struct Open<'a> {
    questions: &'a Questions,
    id: u64,
    name: &'a NodeName,
    /// The person's answer, if there is one.
    allowed: Option<bool>,
    why: &'static str,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.questions.open.borrow_mut().remove(&self.id);
        let (name, why) = (self.name.clone(), self.why.to_owned());
        let ended = Event::AskEnded { id: self.id, name, allowed: self.allowed, why };
        let _ = self.questions.events.send(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(future)
    }

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn questions() -> (Questions, broadcast::Receiver<Event>, Answerers) {
        let (events, heard) = broadcast::channel(64);
        let answerers = Answerers::default();
        (Questions::new(name("me"), events, answerers.clone()), heard, answerers)
    }

    fn why(heard: &mut broadcast::Receiver<Event>) -> String {
        loop {
            if let Event::AskEnded { why, .. } = heard.try_recv().unwrap() {
                return why;
            }
        }
    }

    #[test]
    fn a_person_says_yes_or_no() {
        run(async {
            let (questions, mut heard, answerers) = questions();
            let _here = answerers.join();
            for yes in [true, false] {
                let asker = name("a");
                let asked = questions.ask(&asker);
                let answer = async {
                    let Ok(Event::Asked { id, name: asking }) = heard.recv().await else {
                        panic!("not asked")
                    };
                    assert_eq!(asking, name("a"));
                    assert!(questions.ask(&asking).await.is_err(), "one question per name");
                    questions.answer(id, yes).unwrap();
                    assert_eq!(questions.answer(id, yes).unwrap_err().code(), Code::NodeNotFound);
                };
                let (asked, ()) = tokio::join!(asked, answer);
                assert_eq!(asked.is_ok(), yes);
                assert_eq!(why(&mut heard), if yes { "allowed" } else { "denied" });
            }
        });
    }

    #[test]
    fn no_one_answers() {
        run(async {
            let (mut questions, mut heard, answerers) = questions();
            let denied = questions.ask(&name("a")).await.unwrap_err();
            assert_eq!(denied.code(), Code::ConnectionDenied);
            assert_eq!(why(&mut heard), "no one is there to answer");
            let _here = answerers.join();
            questions.patience = Duration::from_millis(20);
            let denied = questions.ask(&name("a")).await.unwrap_err();
            assert!(denied.message().contains("within 20ms"), "{denied}");
            assert_eq!(why(&mut heard), "no one answered in time");
            {
                let asker = name("a");
                let mut asked = std::pin::pin!(questions.ask(&asker));
                assert!(futures::poll!(asked.as_mut()).is_pending());
            }
            assert_eq!(why(&mut heard), "the node cancelled its request");
        });
    }

    #[test]
    fn not_too_many_wait() {
        run(async {
            let (questions, _heard, answerers) = questions();
            let _here = answerers.join();
            let names: Vec<NodeName> = (0..=MOST).map(|n| name(&format!("n{n}"))).collect();
            let mut asked: Vec<_> = names.iter().map(|name| Box::pin(questions.ask(name))).collect();
            let mut last = asked.pop().unwrap();
            for asked in &mut asked {
                assert!(futures::poll!(asked.as_mut()).is_pending());
            }
            assert!(last.as_mut().await.is_err());
            drop(asked);
            assert!(questions.open.borrow().is_empty());
        });
    }
}
