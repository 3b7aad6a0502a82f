//! The queue that carries finished calls and their output from the workers to Python.
//!
//! In: outcomes and output from the workers, which never call into Python. Out: the same, in batches, on a
//! thread that holds the GIL: an event loop, which a socket wakes, or the thread of a pool, which waits. Must
//! not know: what was called.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gvm_host::{Chunk, Error};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use tokio::sync::oneshot;

use crate::errors::{Raise, exception};
use crate::function::shown;
use crate::lane::Ended;
use crate::op::Finish;
use crate::output::Writer;

/// The writer of one call. The lock keeps the output in order.
pub type SharedWriter = Arc<Mutex<Writer>>;

/// Receives the end of a call.
pub enum Target {
    /// An asyncio future.
    Future(Py<PyAny>),
    /// A function of the result and the exception, one of which is None.
    Callback(Py<PyAny>),
}

/// Something that happened to a call.
pub enum Item {
    Wrote {
        writer: SharedWriter,
        chunks: Vec<Chunk>,
        taken: oneshot::Sender<()>,
    },
    Done {
        target: Target,
        writer: Option<(SharedWriter, Vec<Chunk>)>,
        finish: Finish,
    },
    /// The end of a call of a lane, by its number.
    Ended {
        callback: Arc<Py<PyAny>>,
        number: u64,
        ended: Ended,
        took: Option<Duration>,
        writer: Option<(SharedWriter, Vec<Chunk>)>,
    },
    /// Calls that a lane has not started.
    GivenBack {
        callback: Arc<Py<PyAny>>,
        numbers: Vec<u64>,
    },
}

/// The end of the queue that workers fill. Cheap to clone.
#[derive(Clone)]
pub struct Queue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// How many requests have started and not ended.
    running: AtomicUsize,
    /// Wakes an event loop.
    socket: Option<UnixStream>,
    /// Wakes a thread that waits.
    filled: Condvar,
}

/// Counts one request as running until it is dropped.
pub struct Begun(Queue);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    /// Counts a request that starts.
    pub fn begin(&self) -> Begun {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        Begun(self.clone())
    }

    /// Adds an item. Wakes the reader if the queue was empty.
    pub fn push(&self, item: Item) {
        let mut state = lock(&self.0.state);
        if state.closed {
            return;
        }
        state.items.push_back(item);
        let first = state.items.len() == 1;
        drop(state);
        if first {
            self.wake();
        }
    }

    fn wake(&self) {
        match &self.0.socket {
            // If the socket is full, its reader is awake already.
            Some(socket) => drop((&mut &*socket).write(&[0])),
            None => self.0.filled.notify_one(),
        }
    }
}

/// The queue of finished calls, which one thread drains.
#[pyclass(frozen, module = "gvm._gvm")]
pub struct Completions {
    queue: Queue,
    socket: Option<UnixStream>,
}

#[pymethods]
impl Completions {
    /// Makes a queue that wakes its reader with a socket (`fileno`, for an event loop) or in `wait`.
    #[new]
    fn new(py: Python<'_>, socket: bool) -> PyResult<Completions> {
        let pair = || {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            std::io::Result::Ok((ours, theirs))
        };
        let (ours, theirs) = match socket {
            true => pair()
                .map_err(|error| Error::io("cannot make a pair of sockets", error))
                .or_raise(py)
                .map(|(ours, theirs)| (Some(ours), Some(theirs)))?,
            false => (None, None),
        };
        let shared = Shared {
            state: Mutex::default(),
            running: AtomicUsize::new(0),
            socket: theirs,
            filled: Condvar::new(),
        };
        Ok(Completions { queue: Queue(Arc::new(shared)), socket: ours })
    }

    fn fileno(&self) -> i32 {
        self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Returns how many requests have started and not ended.
    fn running(&self) -> usize {
        self.queue.0.running.load(Ordering::Relaxed)
    }

    /// Takes all items and delivers each to its target.
    fn drain(&self, py: Python<'_>) {
        if let Some(socket) = &self.socket {
            let mut bytes = [0; 64];
            while (&mut &*socket).read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
        }
        let items = std::mem::take(&mut lock(&self.queue.0.state).items);
        let mut ends = Ends::default();
        for item in items {
            if let Err(error) = settle(py, item, &mut ends) {
                error.write_unraisable(py, None);
            }
        }
        if let Err(error) = ends.tell(py) {
            error.write_unraisable(py, None);
        }
    }

    /// Waits for an item. Returns False once the queue is closed and empty.
    fn wait(&self, py: Python<'_>) -> bool {
        py.detach(|| {
            let mut state = lock(&self.queue.0.state);
            loop {
                if !state.items.is_empty() {
                    return true;
                }
                if state.closed {
                    return false;
                }
                state = self.queue.0.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        })
    }

    /// Closes the queue for new items. Items in it can still be drained.
    fn close(&self) {
        lock(&self.queue.0.state).closed = true;
        self.queue.wake();
    }
}

impl Completions {
    /// Returns the end that workers fill.
    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }
}

/// The ends of calls of one lane, which Python receives together.
#[derive(Default)]
struct Ends<'py> {
    callback: Option<Arc<Py<PyAny>>>,
    ends: Vec<Bound<'py, PyTuple>>,
}

impl<'py> Ends<'py> {
    fn add(&mut self, py: Python<'py>, callback: Arc<Py<PyAny>>, end: Bound<'py, PyTuple>) -> PyResult<()> {
        let told = match &self.callback {
            Some(known) if !Arc::ptr_eq(known, &callback) => self.tell(py),
            _ => Ok(()),
        };
        self.callback = Some(callback);
        self.ends.push(end);
        told
    }

    /// Passes the ends on.
    fn tell(&mut self, py: Python<'py>) -> PyResult<()> {
        let ends = std::mem::take(&mut self.ends);
        match self.callback.take() {
            Some(callback) => callback.call1(py, (PyList::new(py, ends)?, PyList::empty(py))).map(drop),
            None => Ok(()),
        }
    }
}

fn settle<'py>(py: Python<'py>, item: Item, ends: &mut Ends<'py>) -> PyResult<()> {
    if !matches!(item, Item::Ended { .. }) {
        ends.tell(py)?;
    }
    match item {
        Item::Ended { callback, number, ended, took, writer } => {
            if let Some((writer, rest)) = writer {
                write_rest(py, &writer, &rest);
            }
            let result = match ended {
                Ended::Outcome(signature, outcome) => shown(py, Some(&signature), outcome),
                Ended::Failed(error) => Err(exception(py, &error)),
                Ended::Raised(error) => Err(error),
            };
            let (result, error) = match result {
                Ok(result) => (result, None),
                Err(error) => (py.None(), Some(error)),
            };
            let end = (number, result, error, took.map(|took| took.as_secs_f64())).into_pyobject(py)?;
            ends.add(py, callback, end)
        }
        Item::GivenBack { callback, numbers } => callback.call1(py, (PyList::empty(py), numbers)).map(drop),
        Item::Wrote { writer, chunks, taken } => {
            let written = lock(&writer).write(py, &chunks);
            // The guest continues. If the call has ended meanwhile, nothing receives this.
            let _ = taken.send(());
            written
        }
        Item::Done { target, writer, finish } => {
            if let Some((writer, rest)) = writer {
                write_rest(py, &writer, &rest);
            }
            let result = finish(py);
            match target {
                Target::Future(future) => {
                    let future = future.bind(py);
                    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
                        return Ok(());
                    }
                    match result {
                        Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
                        Err(error) => future.call_method1(intern!(py, "set_exception"), (error,))?,
                    };
                }
                Target::Callback(callback) => {
                    match result {
                        Ok(value) => callback.call1(py, (value, py.None()))?,
                        Err(error) => callback.call1(py, (py.None(), error))?,
                    };
                }
            }
            Ok(())
        }
    }
}

/// Writes the last output of a call.
fn write_rest(py: Python<'_>, writer: &SharedWriter, rest: &[Chunk]) {
    let mut writer = lock(writer);
    let written = match rest {
        [] => Ok(()),
        rest => writer.write(py, rest),
    };
    if let Err(error) = written.and_then(|()| writer.finish(py)) {
        error.write_unraisable(py, None);
    }
}
