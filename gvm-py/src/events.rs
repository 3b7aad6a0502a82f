//! The events of a node, and its end.
//!
//! In: the handle of a node. Out: its events in order, as plain values; the request that ends it. Must not
//! know: the other requests to a node.

use std::sync::Arc;
use std::time::Duration;

use gvm_host::{Answering, Event, Handle};
use pyo3::prelude::*;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, broadcast, watch};

use crate::errors::Raise;
use crate::fork::{self, Owned};
use crate::lookup::Core;
use crate::op::Op;

/// Ends a node, and refers to no Python object of it.
#[pyclass(frozen, module = "gvm._gvm")]
pub struct Ending {
    core: Owned<Core>,
    ended: watch::Sender<bool>,
}

impl Ending {
    /// Makes the object that ends this node. `ended` becomes true once the node has ended.
    pub fn new(core: Core, ended: watch::Sender<bool>) -> Ending {
        Ending { core: Owned::new(core), ended }
    }
}

#[pymethods]
impl Ending {
    /// Returns whether the node was told to end.
    #[getter]
    fn closed(&self) -> bool {
        self.core.get().is_none_or(Core::closed)
    }

    /// Ends the node. Running calls have some seconds to end, or none with `hurry`.
    fn shut_down(&self, py: Python<'_>, hurry: bool) -> PyResult<Op> {
        fork::check().or_raise(py)?;
        let Some(core) = self.core.get() else { return Ok(Op::nothing(async { Ok(()) })) };
        core.close();
        let (handle, ended) = (core.handle().clone(), self.ended.clone());
        Ok(Op::nothing(async move {
            let hurrying = async {
                if hurry {
                    handle.hurry().await;
                }
            };
            // The node receives both requests in this order: first to end, then to hurry.
            futures::join!(handle.shut_down(), hurrying);
            ended.send_replace(true);
            Ok(())
        }))
    }
}

/// The events of a node, in order. One reader waits at a time.
#[pyclass(frozen, module = "gvm._gvm")]
pub struct Events {
    events: Arc<Mutex<broadcast::Receiver<Event>>>,
    ended: watch::Receiver<bool>,
    _answering: Answering,
}

impl Events {
    /// Returns the events of this node from now on. While they are held, questions of other nodes wait for an
    /// answer.
    pub fn of(handle: &Handle, ended: watch::Receiver<bool>) -> Events {
        let (events, answering) = (handle.events(), handle.answering());
        Events { events: Arc::new(Mutex::new(events)), ended, _answering: answering }
    }
}

#[pymethods]
impl Events {
    /// Returns the next event as kind, node, reason and number. Returns None once the node has ended, or if
    /// no event comes in time.
    fn next(&self, timeout: Option<f64>) -> Op {
        let (events, mut ended) = (self.events.clone(), self.ended.clone());
        let waiting = async move {
            let mut events = events.lock().await;
            let next = async {
                loop {
                    let event = tokio::select! {
                        biased;
                        event = events.recv() => event,
                        _ = ended.wait_for(|ended| *ended) => return None,
                    };
                    match event {
                        Ok(event) => return Some(event),
                        // A reader that fell behind continues with the events that are left.
                        Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => return None,
                    }
                }
            };
            let most = timeout.and_then(|most| Duration::try_from_secs_f64(most).ok());
            Ok(match most {
                Some(most) => tokio::time::timeout(most, next).await.ok().flatten(),
                None => next.await,
            })
        };
        Op::of(waiting, |py, event: Option<Event>| Ok(event.map(words).into_pyobject(py)?.unbind()))
    }
}

type Words = (&'static str, Option<String>, Option<String>, Option<u64>);

fn words(event: Event) -> Words {
    let (node, why) = (event.node().map(ToString::to_string), event.why().map(str::to_owned));
    (event.kind(), node, why, event.number().map(|(_, number)| number))
}
