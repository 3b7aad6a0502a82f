//! Requests, which Python code waits for or awaits.
//!
//! In: a future that has not started. Out: its result on the thread that waits, in an event loop, or in a
//! pool. Cancelling the request (Ctrl-C, a cancelled or dropped task) drops the future, which stops the
//! guest. Must not know: what is requested.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use gvm_host::{Effect, Error, Output, Result, workers};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pyo3::types::iterator::PySendResult;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::completions::{Completions, Item, Queue, SharedWriter, Target};
use crate::drive::{How, drive};
use crate::errors::{Raise, exception};
use crate::fork;
use crate::options::Sinks;
use crate::output::Writer;

/// Converts the result of a future into a Python object. Runs with the GIL held.
pub type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// The output of a call, and its destination.
pub struct Written {
    pub call: Uuid,
    pub pipe: Output,
    pub sinks: Arc<Sinks>,
}

/// A future that has not started, and its output.
pub struct Job {
    pub future: BoxFuture<'static, Finish>,
    pub output: Option<Written>,
}

/// A request that has not started. Call `wait()`, or `await` it, once.
#[pyclass(frozen, module = "gvm._gvm")]
pub struct Op(Mutex<Option<Job>>);

impl Op {
    /// Makes a request of a job.
    pub fn new(job: Job) -> Op {
        Op(Mutex::new(Some(job)))
    }

    /// Makes a request without output. `show` converts its result into a Python object.
    pub fn of<T: Send + 'static>(
        future: impl Future<Output = Result<T>> + Send + 'static,
        show: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Op {
        let future = async move {
            let result = future.await;
            Box::new(move |py: Python<'_>| show(py, result.or_raise(py)?)) as Finish
        };
        Op::new(Job { future: future.boxed(), output: None })
    }

    /// Makes a request without output whose result is None.
    pub fn nothing(future: impl Future<Output = Result<()>> + Send + 'static) -> Op {
        Op::of(future, |py, ()| Ok(py.None()))
    }

    /// Makes a request that blocks a thread.
    pub fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> Result<T> + Send + 'static,
        show: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Op {
        let work = async move {
            let ended = tokio::task::spawn_blocking(work).await;
            ended.unwrap_or_else(|error| Err(Error::internal(error.to_string())))
        };
        Op::of(work, show)
    }

    fn take(&self) -> PyResult<Job> {
        let job = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        job.ok_or_else(|| PyRuntimeError::new_err("this request was already made"))
    }

    /// Starts the request on the workers.
    fn spawn(&self, py: Python<'_>, queue: Queue, target: Target) -> PyResult<AbortHandle> {
        fork::start().or_raise(py)?;
        let workers = workers().or_raise(py)?;
        let Job { future, output } = self.take()?;
        let output = match output {
            Some(Written { call, pipe, sinks }) => {
                Some((pipe, Arc::new(Mutex::new(Writer::from_here(py, call, sinks)?))))
            }
            None => None,
        };
        let begun = queue.begin();
        let running = async move {
            run(future, output, queue, target).await;
            drop(begun);
        };
        Ok(workers.spawn(running).abort_handle())
    }
}

/// Runs a job to its end, and puts its output and its result into the queue.
async fn run(
    future: BoxFuture<'static, Finish>,
    output: Option<(Output, SharedWriter)>,
    queue: Queue,
    target: Target,
) {
    let future = AssertUnwindSafe(future).catch_unwind();
    let attending = output.as_ref().map(|(pipe, writer)| (pipe, writer));
    let ended = attended(future, attending, &queue).await;
    let finish = ended.unwrap_or_else(|_| {
        let error = Error::internal("a request panicked").with_effect(Effect::Unknown);
        Box::new(move |py: Python<'_>| Err(exception(py, &error)))
    });
    let writer = output.map(|(pipe, writer)| (writer, pipe.take()));
    queue.push(Item::Done { target, writer, finish });
}

/// Runs a future to its end, and puts the output of its guest into the queue meanwhile.
pub async fn attended<T>(
    future: impl Future<Output = T>,
    output: Option<(&Output, &SharedWriter)>,
    queue: &Queue,
) -> T {
    let mut future = pin!(future);
    loop {
        let written = async {
            match output {
                Some((pipe, _)) => pipe.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = &mut future => return ended,
            chunks = written => if let Some((_, writer)) = output {
                let (taken, seen) = oneshot::channel();
                queue.push(Item::Wrote { writer: writer.clone(), chunks, taken });
                tokio::select! {
                    biased;
                    ended = &mut future => return ended,
                    _ = seen => {}
                }
            },
        }
    }
}

#[pymethods]
impl Op {
    /// Makes the request and waits for its result.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let Job { future, output } = self.take()?;
        let finish = match output {
            None => drive(py, pin!(future), None, How::default())?,
            Some(Written { call, pipe, sinks }) => {
                drive(py, pin!(future), Some((&pipe, &mut Writer::here(call, sinks))), How::default())?
            }
        };
        finish(py)
    }

    /// Makes the request in the running event loop.
    fn __await__(&self, py: Python<'_>) -> PyResult<Awaited> {
        let running = py.import(intern!(py, "gvm._loop"))?.call_method0(intern!(py, "running"))?;
        let (future, completions): (Bound<'_, PyAny>, Bound<'_, Completions>) = running.extract()?;
        let target = Target::Future(future.clone().unbind());
        let steps = future.try_iter()?.unbind();
        let abort = self.spawn(py, completions.get().queue(), target)?;
        Ok(Awaited { steps, abort })
    }

    /// Makes the request on a worker. The thread that drains the queue calls `callback(result, exception)`.
    fn begin(&self, py: Python<'_>, completions: &Completions, callback: Py<PyAny>) -> PyResult<Canceller> {
        let abort = self.spawn(py, completions.queue(), Target::Callback(callback))?;
        Ok(Canceller { abort })
    }
}

/// The awaitable of a request, for an event loop. Dropping it cancels the request: its task was cancelled or
/// dropped.
#[pyclass(frozen, module = "gvm._gvm")]
pub struct Awaited {
    /// Iterates over the asyncio future that receives the result.
    steps: Py<PyIterator>,
    abort: AbortHandle,
}

#[pymethods]
impl Awaited {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.steps.bind(py).send(py.None().bind(py))? {
            PySendResult::Next(waited) => Ok(waited.unbind()),
            PySendResult::Return(result) => Err(PyStopIteration::new_err((result.unbind(),))),
        }
    }

    fn close(&self) {
        self.abort.abort();
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// Cancels a request.
#[pyclass(frozen, module = "gvm._gvm")]
pub struct Canceller {
    abort: AbortHandle,
}

#[pymethods]
impl Canceller {
    fn cancel(&self) {
        self.abort.abort();
    }
}
