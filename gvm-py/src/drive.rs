//! Polls a future on the thread that waits for it.
//!
//! In: a future, the pipe with the output of its guest, memory for its result. Out: the future's result. The GIL is
//! released while the future runs, but not for a call that ends in a few microseconds. Signals are checked several times
//! per second: Ctrl-C ends the wait and drops the future, which stops the guest. Must not know: what the future does.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use gvm_host::{Chunk, Landing, Output, look, prepare, wait_for};
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

/// How a call is driven.
#[derive(Default)]
pub struct How {
    /// Whether the call has been so fast that the GIL is kept while the future is polled for the first time. The guest is
    /// interrupted after 5 ms at most, like a Python thread that keeps the GIL.
    pub fast: bool,
    /// Memory for a large result.
    pub landing: Option<Box<dyn Landing + Send>>,
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
    mut future: Pin<&mut (impl Future<Output = T> + Send)>,
    mut output: Option<(&Output, &mut Writer)>,
    how: How,
) -> PyResult<T> {
    fork::start().or_raise(py)?;
    let _prepared = how.landing.map(|landing| prepare(landing));
    let mut ended = if how.fast { look(future.as_mut()).or_raise(py)? } else { None };
    let pipe = output.as_ref().map(|(pipe, _)| *pipe);
    let mut written = pin!(next(pipe));
    let mut main = None;
    loop {
        if let Some(value) = ended.take() {
            if let Some((pipe, writer)) = &mut output {
                let rest = pipe.take();
                if !rest.is_empty() {
                    writer.write(py, &rest)?;
                }
                writer.finish(py)?;
            }
            return Ok(value);
        }
        let step = py.detach(|| {
            let step = pin!(poll_fn(|cx| match future.as_mut().poll(cx) {
                Poll::Ready(value) => Poll::Ready(Step::Done(value)),
                Poll::Pending => written.as_mut().poll(cx).map(Step::Wrote),
            }));
            // Only the first wait of a thread that is not the main thread is this short.
            let most = if main == Some(false) { FOREVER } else { SIGNALS };
            wait_for(step, Some(most))
        });
        let step = step.or_raise(py)?.unwrap_or(Step::Signals);
        match step {
            Step::Done(value) => ended = Some(value),
            Step::Wrote(chunks) => {
                if let Some((_, writer)) = &mut output {
                    writer.write(py, &chunks)?;
                }
                written.set(next(pipe));
                // A guest that writes all the time leaves no other time for them.
                py.check_signals()?;
            }
            Step::Signals => {
                if main.is_none() {
                    main = Some(is_main(py)?);
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
