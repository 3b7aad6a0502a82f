//! Polls a future on the thread that waits for it.
//!
//! In: a future, and the pipe with the output of its guest. Out: the future's result. The GIL is released
//! while the future runs. Signals are checked several times per second: Ctrl-C ends the wait and drops the
//! future, which stops the guest. Must not know: what the future does.

use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use gvm_host::{Chunk, Output, workers};
use pyo3::intern;
use pyo3::prelude::*;

use crate::errors::Raise;
use crate::fork;
use crate::output::Writer;

/// The time between two checks for signals. The guest must stop within 200 ms of Ctrl-C, and stopping it also
/// takes an epoch tick here or a message to another node.
const SIGNALS: Duration = Duration::from_millis(40);

/// The time between two checks on other threads: Python handles signals only on the main thread.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// Wakes the thread that waits.
struct Parked {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

thread_local! {
    static PARKED: RefCell<Option<(Arc<Parked>, Waker)>> = const { RefCell::new(None) };
}

/// Returns the waker of this thread. Nested calls on one thread share it, because each polls again before it
/// waits.
fn parked() -> (Arc<Parked>, Waker) {
    PARKED.with_borrow_mut(|kept| {
        let make = || {
            let parked = Arc::new(Parked { thread: std::thread::current(), woken: AtomicBool::new(false) });
            (parked.clone(), Waker::from(parked))
        };
        kept.get_or_insert_with(make).clone()
    })
}

enum Step<T> {
    Done(T),
    Wrote(Vec<Chunk>),
    Signals,
}

/// Waits for a future and returns its result.
///
/// # Errors
/// What a signal handler raised (`KeyboardInterrupt`), or what the function for the output raised. Both drop
/// the future. `NOT_PERMITTED` in the child of a fork.
pub fn drive<T: Send>(
    py: Python<'_>,
    future: impl Future<Output = T> + Send,
    mut output: Option<(&Output, &mut Writer)>,
) -> PyResult<T> {
    fork::start().or_raise(py)?;
    let workers = workers().or_raise(py)?;
    let pipe = output.as_ref().map(|(pipe, _)| *pipe);
    let mut future = pin!(future);
    let mut written = pin!(next(pipe));
    let (mut due, mut main) = (None, None);
    loop {
        let step = py.detach(|| {
            // Timers and blocking tasks bind to the runtime that is current at their first poll.
            let _entered = workers.enter();
            let (parked, waker) = parked();
            let mut context = Context::from_waker(&waker);
            loop {
                parked.woken.store(false, Ordering::Relaxed);
                if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                    return Step::Done(value);
                }
                if let Poll::Ready(chunks) = written.as_mut().poll(&mut context) {
                    return Step::Wrote(chunks);
                }
                let now = Instant::now();
                let left = due.get_or_insert(now + SIGNALS).saturating_duration_since(now);
                if left.is_zero() {
                    due = None;
                    return Step::Signals;
                }
                if !parked.woken.load(Ordering::Acquire) {
                    std::thread::park_timeout(left);
                }
            }
        });
        match step {
            Step::Done(value) => {
                if let Some((pipe, writer)) = &mut output {
                    let rest = pipe.take();
                    if !rest.is_empty() {
                        writer.write(py, &rest)?;
                    }
                    writer.finish(py)?;
                }
                return Ok(value);
            }
            Step::Wrote(chunks) => {
                if let Some((_, writer)) = &mut output {
                    writer.write(py, &chunks)?;
                }
                written.set(next(pipe));
            }
            Step::Signals => {
                if !*main.get_or_insert(is_main(py)?) {
                    due = Some(Instant::now() + FOREVER);
                }
                py.check_signals()?;
            }
        }
    }
}

async fn next(pipe: Option<&Output>) -> Vec<Chunk> {
    match pipe {
        Some(pipe) => pipe.next().await,
        None => std::future::pending().await,
    }
}

fn is_main(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import(intern!(py, "threading"))?;
    let this = threading.call_method0(intern!(py, "get_ident"))?;
    this.eq(threading.call_method0(intern!(py, "main_thread"))?.getattr(intern!(py, "ident"))?)
}
