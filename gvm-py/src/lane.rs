//! The calls of a pool on one node.
//!
//! In: calls of functions, which have not started. Out: how each ended, in the queue of the pool; and calls that waited
//! too long here, which the pool may run elsewhere. At most so many calls run at once as the lane was made for; the
//! others wait here, so that a node whose calls are short never waits for Python. Must not know: other nodes, what the
//! calls are.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{AbortHandle, Abortable};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, future};
use gvm_host::{Call, Effect, Error, Outcome, Result, Stdio, wait, workers};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::completions::{Completions, Item, Queue, SharedWriter};
use crate::errors::Raise;
use crate::fork;
use crate::function::Function;
use crate::lookup::{Core, Place};
use crate::op::attended;
use crate::output::{Origin, Writer};
use crate::plan::Signature;

/// How long a call waits behind others that do not end, before the pool may run it elsewhere.
const PATIENCE: Duration = Duration::from_millis(10);

/// The calls of a pool on one node.
#[pyclass(frozen, module = "gvm._gvm")]
pub struct Lane(Arc<Shared>);

struct Shared {
    /// How many calls run at once.
    most: usize,
    queue: Queue,
    /// Receives the ends of calls, and the numbers of calls that the lane gives back.
    callback: Arc<Py<PyAny>>,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Part>,
    running: HashMap<u64, AbortHandle>,
    /// How many tasks of the runtime run calls on this node.
    runners: usize,
    /// Whether the thread for calls on another node has started.
    started: bool,
    /// When the last call began.
    begun: Option<Instant>,
    closed: bool,
}

/// One call, with the number that the pool gave it.
struct Part {
    number: u64,
    core: Core,
    place: Place,
    call: Call,
    stdio: Stdio,
    signature: Arc<Signature>,
    writer: SharedWriter,
}

/// How a call ended.
pub enum Ended {
    Outcome(Arc<Signature>, Outcome),
    /// It could not be started, or its future panicked.
    Raised(PyErr),
    Failed(Error),
}

/// Removes a call from those that run.
struct Runs<'a>(&'a Shared, u64);

impl Drop for Runs<'_> {
    fn drop(&mut self) {
        self.0.lock().running.remove(&self.1);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the lane's calls until none is left, at most `window` of them at once.
    async fn serve(&self, window: usize) {
        let mut running = FuturesUnordered::new();
        let mut late = pin!(sleep(PATIENCE));
        loop {
            while running.len() < window
                && let Some((part, aborted)) = self.take()
            {
                running.push(Abortable::new(self.run(part), aborted));
            }
            if running.is_empty() {
                let mut state = self.lock();
                if state.waiting.is_empty() {
                    state.runners = state.runners.saturating_sub(1);
                    return;
                }
                continue;
            }
            let full = running.len() == window;
            tokio::select! {
                biased;
                _ = running.next() => {}
                () = self.filled.notified(), if !full => {}
                () = late.as_mut(), if full => late.as_mut().reset(self.lose_patience() + PATIENCE),
            }
        }
    }

    /// Runs the calls on another node until the lane is closed.
    async fn serve_there(&self) {
        while !self.lock().closed {
            self.serve(self.most).await;
            self.filled.notified().await;
        }
    }

    /// Takes the call that runs next.
    fn take(&self) -> Option<(Part, future::AbortRegistration)> {
        let mut state = self.lock();
        let part = state.waiting.pop_front()?;
        let (abort, aborted) = AbortHandle::new_pair();
        state.running.insert(part.number, abort);
        state.begun = Some(Instant::now());
        Some((part, aborted))
    }

    /// Gives the calls that wait back to the pool, if none has begun for too long. Returns since when that is.
    fn lose_patience(&self) -> Instant {
        let mut state = self.lock();
        let now = Instant::now();
        let begun = state.begun.unwrap_or(now);
        if now.duration_since(begun) < PATIENCE {
            return begun;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        if !waiting.is_empty() {
            let numbers = waiting.iter().map(|part| part.number).collect();
            self.queue.push(Item::GivenBack { callback: self.callback.clone(), numbers });
        }
        now
    }

    /// Starts the thread that makes the calls on another node. It waits for the outcomes itself, and receives all that
    /// have arrived at once.
    fn start(self: &Arc<Shared>) -> Result<()> {
        let shared = self.clone();
        let run = move || {
            // It fails only if the system cannot make the thread's runtime.
            if let Err(error) = wait(shared.serve_there()) {
                shared.fail(&error);
            }
        };
        let started = std::thread::Builder::new().name("gvm-lane".into()).spawn(run);
        started.map(drop).map_err(|error| Error::io("cannot start the thread for the calls of a pool", error))
    }

    /// Ends the calls that wait, which this lane cannot run.
    fn fail(&self, error: &Error) {
        let waiting = {
            let mut state = self.lock();
            state.started = false;
            std::mem::take(&mut state.waiting)
        };
        for part in waiting {
            self.push(
                part.number,
                Ended::Failed(Error::new(error.code(), error.message().to_owned())),
                None,
                None,
            );
        }
    }

    async fn run(&self, part: Part) {
        let Part { number, core, place, call, stdio, signature, writer } = part;
        let _runs = Runs(self, number);
        let pipe = stdio.output.clone();
        let running = AssertUnwindSafe(core.run(place, call, stdio)).catch_unwind();
        let (ended, took) = match attended(running, Some((&pipe, &writer)), &self.queue).await {
            Ok(outcome) => {
                let took = outcome.elapsed;
                (Ended::Outcome(signature, outcome), took)
            }
            Err(_) => {
                let error = Error::internal("a request panicked").with_effect(Effect::Unknown);
                (Ended::Failed(error), None)
            }
        };
        let rest = pipe.take();
        self.push(number, ended, took, Some((writer, rest)));
    }

    fn push(
        &self,
        number: u64,
        ended: Ended,
        took: Option<Duration>,
        writer: Option<(SharedWriter, Vec<gvm_host::Chunk>)>,
    ) {
        self.queue.push(Item::Ended { callback: self.callback.clone(), number, ended, took, writer });
    }
}

#[pymethods]
impl Lane {
    /// Makes a lane that runs at most `most` calls at once. The thread that drains the queue calls
    /// `callback(ends, numbers)`: a list of the number, result, exception and seconds on its node, if they were measured, of each call that ended,
    /// or the numbers of calls that have not started and are given back.
    #[new]
    fn new(completions: &Completions, callback: Py<PyAny>, most: usize) -> Lane {
        Lane(Arc::new(Shared {
            most: most.max(1),
            queue: completions.queue(),
            callback: Arc::new(callback),
            state: Mutex::default(),
            filled: Notify::new(),
        }))
    }

    /// Starts calls of a function. Each has a number, its arguments, and the context for its output. All are accepted,
    /// or none if an exception is raised that is not an `Exception`; a call whose arguments do not fit ends with that
    /// error.
    fn push(
        &self,
        py: Python<'_>,
        function: &Bound<'_, Function>,
        tasks: Vec<(u64, Bound<'_, PyTuple>, Py<PyAny>)>,
    ) -> PyResult<()> {
        fork::start().or_raise(py)?;
        let workers = workers().or_raise(py)?;
        let sys = py.import(intern!(py, "sys"))?;
        let streams = [sys.getattr(intern!(py, "stdout"))?, sys.getattr(intern!(py, "stderr"))?];
        let function = function.get();
        let mut parts = VecDeque::with_capacity(tasks.len());
        let mut bad = Vec::new();
        for (number, args, context) in tasks {
            match function.ready(py, &args) {
                Ok((signature, call, stdio)) => {
                    let [stdout, stderr] = streams.each_ref().map(|stream| stream.clone().unbind());
                    let origin = Origin { context, stdout, stderr };
                    let writer = Writer::from(call.id, function.sinks(), origin);
                    let writer = Arc::new(Mutex::new(writer));
                    let (core, place) = function.place();
                    parts.push_back(Part { number, core, place, call, stdio, signature, writer });
                }
                Err(error) if error.is_instance_of::<PyException>(py) => bad.push((number, error)),
                Err(error) => return Err(error),
            }
        }
        let here = function.is_here();
        let mut state = self.0.lock();
        if state.closed {
            return Err(PyRuntimeError::new_err("the lane is closed"));
        }
        state.waiting.append(&mut parts);
        let wanted = if here { self.0.most.min(state.runners + state.waiting.len()) } else { 0 };
        let new = wanted.saturating_sub(state.runners);
        state.runners += new;
        let starts = !here && !std::mem::replace(&mut state.started, true);
        drop(state);
        for (number, error) in bad {
            self.0.push(number, Ended::Raised(error), None, None);
        }
        // Guests of this process run on several threads.
        for _ in 0..new {
            let shared = self.0.clone();
            workers.spawn(async move { shared.serve(1).await });
        }
        if starts {
            self.0.start().or_raise(py)?;
        }
        self.0.filled.notify_one();
        Ok(())
    }

    /// Stops a call, or forgets it if it has not started. It does not reach the callback, unless its end is in the queue
    /// already.
    fn cancel(&self, number: u64) {
        let mut state = self.0.lock();
        match state.running.get(&number) {
            Some(running) => running.abort(),
            None => state.waiting.retain(|part| part.number != number),
        }
    }

    /// Stops all calls, and accepts no more.
    fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.running.values().for_each(AbortHandle::abort);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        self.0.filled.notify_one();
    }
}
