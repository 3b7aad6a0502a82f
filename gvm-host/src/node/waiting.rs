//! Runs a future on the thread that waits for it.
//!
//! In: a future. Out: its result. The thread drives the connections for its own calls on other nodes, so that such a call
//! crosses no other thread of this process. Must not know: what the future does.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::{Builder, Handle as Workers, Runtime};

use crate::base::error::{Error, Result};
use crate::base::spin::Spin;
use crate::base::threads::workers;
use crate::peer::channel::Channel;
use crate::peer::line::Line;

thread_local! {
    static THIS: OnceCell<Rc<Waiter>> = const { OnceCell::new() };
}

/// A thread that waits, or has waited before.
struct Waiter {
    /// The runtime of the thread's channels.
    runtime: Runtime,
    nudge: Arc<Nudge>,
    waker: Waker,
    /// Whether a future runs on the thread now.
    waits: Cell<bool>,
    /// The thread's channels, by the number of their line.
    channels: RefCell<HashMap<u64, Channel>>,
    /// Lines that the thread has used once, or whose channel could not be opened.
    used: RefCell<HashMap<u64, Used>>,
    spin: RefCell<Spin>,
}

#[derive(Clone, Copy, PartialEq)]
enum Used {
    Once,
    /// Calls use the connections of other threads.
    Failed,
}

/// Wakes the thread. While the thread polls, waking it costs no system call.
#[derive(Default)]
struct Nudge {
    woken: AtomicBool,
    asleep: AtomicBool,
    thread: Mutex<Option<Waker>>,
}

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) && self.asleep.load(Ordering::SeqCst) {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.iter().for_each(Waker::wake_by_ref);
        }
    }
}

/// Runs a future to its end on this thread, which waits for it. Calls on other nodes are fastest this way: this thread
/// sends them and receives their outcomes itself. A future that needs no I/O is only polled.
///
/// # Errors
/// `INTERNAL` if the system cannot start the threads of the process or the runtime of this thread.
///
/// # Panics
/// As [`Runtime::block_on`], if the future has to wait and this is called from an asynchronous task.
pub fn wait<T>(future: impl Future<Output = T>) -> Result<T> {
    let ended = wait_for(pin!(future), None)?;
    ended.ok_or_else(|| Error::internal("a wait without a limit ended early"))
}

/// Runs a future on this thread until it ends, for `most` at most; returns `None` if it has not ended then. A future
/// that was not run to its end must be run further on the same thread, or dropped.
///
/// # Errors
/// As of [`wait`].
///
/// # Panics
/// As [`wait`].
pub fn wait_for<T>(
    mut future: Pin<&mut impl Future<Output = T>>,
    most: Option<Duration>,
) -> Result<Option<T>> {
    let workers = workers()?.handle();
    let this = this()?;
    let _waits = Waits::begin(&this);
    if let Poll::Ready(value) = this.poll(workers, future.as_mut()) {
        return Ok(Some(value));
    }
    Ok(this.runtime.block_on(async {
        let mut alarm = most.map(|most| Box::pin(tokio::time::sleep(most)));
        poll_fn(|cx| {
            this.set_thread(cx.waker());
            for round in 0..=ROUNDS {
                this.nudge.asleep.store(false, Ordering::SeqCst);
                if this.nudge.woken.load(Ordering::SeqCst) {
                    this.spin.borrow_mut().happened();
                    if let Poll::Ready(value) = this.poll(workers, future.as_mut()) {
                        return Poll::Ready(Some(value));
                    }
                }
                this.drive_channels(cx);
                this.nudge.asleep.store(true, Ordering::SeqCst);
                if !this.nudge.woken.load(Ordering::SeqCst) {
                    break;
                }
                // A guest that computes wakes itself all the time. The runtime must get the chance to see the time.
                if round == ROUNDS {
                    cx.waker().wake_by_ref();
                }
            }
            let ended = match &mut alarm {
                Some(alarm) => alarm.as_mut().poll(cx).map(|()| None),
                None => Poll::Pending,
            };
            if ended.is_pending() && this.awaits_outcomes() {
                this.spin.borrow_mut().look_again(cx);
            }
            ended
        })
        .await
    }))
}

/// Polls a future once on this thread. Returns `None` if it has not ended; run it further with [`wait_for`] on the same
/// thread, or drop it. A call of a local function that is fast ends here.
///
/// # Errors
/// As of [`wait`].
pub fn look<T>(future: Pin<&mut impl Future<Output = T>>) -> Result<Option<T>> {
    let workers = workers()?.handle();
    let this = this()?;
    let _waits = Waits::begin(&this);
    match this.poll(workers, future) {
        Poll::Ready(value) => Ok(Some(value)),
        Poll::Pending => Ok(None),
    }
}

fn this() -> Result<Rc<Waiter>> {
    THIS.with(|this| {
        if let Some(this) = this.get() {
            return Ok(this.clone());
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Error::io("cannot start the runtime of a thread that waits", error))?;
        let nudge = Arc::<Nudge>::default();
        let waker = Waker::from(nudge.clone());
        let (waits, channels, used, spin) = Default::default();
        Ok(this
            .get_or_init(|| Rc::new(Waiter { runtime, nudge, waker, waits, channels, used, spin }))
            .clone())
    })
}

/// The thread runs a future until this is dropped.
struct Waits<'a>(&'a Waiter, bool);

impl Waits<'_> {
    fn begin(waiter: &Waiter) -> Waits<'_> {
        Waits(waiter, waiter.waits.replace(true))
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waits.set(self.1);
    }
}

impl Waiter {
    fn poll<T>(&self, workers: &Workers, future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        self.nudge.woken.store(false, Ordering::SeqCst);
        // Timers and tasks of the future use the runtime that is current when they are first polled.
        let _entered = workers.enter();
        future.poll(&mut Context::from_waker(&self.waker))
    }

    fn set_thread(&self, waker: &Waker) {
        let mut thread = self.nudge.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if !thread.as_ref().is_some_and(|thread| thread.will_wake(waker)) {
            *thread = Some(waker.clone());
        }
    }

    /// Whether a call of this thread waits for its outcome from another node.
    fn awaits_outcomes(&self) -> bool {
        self.channels.borrow().values().any(Channel::is_busy)
    }

    /// Sends the thread's calls and receives their outcomes.
    fn drive_channels(&self, cx: &mut Context<'_>) {
        let mut channels = self.channels.borrow_mut();
        if !channels.is_empty() {
            channels.retain(|_, channel| channel.poll(cx).is_pending());
        }
    }
}

/// Whether this thread waits for the future that asks.
pub(super) fn waits() -> bool {
    THIS.with(|this| this.get().is_some_and(|this| this.waits.get()))
}

/// Returns the channel of this thread for its calls on a peer, if the thread waits for the future that asks. The first
/// call of a thread uses the connections of others; the second opens a channel.
pub(super) async fn channel(line: &Arc<Line>) -> Option<Channel> {
    let opening = {
        let this = THIS.with(|this| this.get().filter(|this| this.waits.get()).cloned())?;
        if let Some(channel) = this.channels.borrow().get(&line.number).filter(|channel| channel.is_open()) {
            return Some(channel.clone());
        }
        if line.gone.is_cancelled() {
            return None;
        }
        let mut used = this.used.borrow_mut();
        match used.get(&line.number) {
            None => {
                // Lines that have ended are not used again.
                if used.len() > MOST_USED {
                    used.clear();
                }
                used.insert(line.number, Used::Once);
                return None;
            }
            Some(Used::Failed) => return None,
            Some(Used::Once) => used.insert(line.number, Used::Failed),
        };
        OnThisRuntime { handle: this.runtime.handle().clone(), inner: Box::pin(open(line.clone())) }
    };
    let channel = opening.await?;
    THIS.with(|this| {
        let this = this.get()?;
        this.channels.borrow_mut().insert(line.number, channel.clone());
        this.used.borrow_mut().insert(line.number, Used::Once);
        Some(channel)
    })
}

/// How often a thread polls in a row before it lets its runtime look for I/O and timers.
const ROUNDS: u32 = 4;

/// Lines that a thread remembers to have used.
const MOST_USED: usize = 1024;

async fn open(line: Arc<Line>) -> Option<Channel> {
    match line.open().await {
        Ok(channel) => Some(channel),
        Err(error) => {
            tracing::debug!(peer = %line.info.name, "cannot open a channel for a thread: {error}");
            None
        }
    }
}

/// Polls a future with the runtime of a thread as the current one.
struct OnThisRuntime<T> {
    handle: Workers,
    inner: Pin<Box<dyn Future<Output = T> + Send>>,
}

impl<T> Future for OnThisRuntime<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let handle = self.handle.clone();
        let _entered = handle.enter();
        self.inner.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_in_time_although_its_future_wakes_itself() {
        let mut busy = pin!(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let began = std::time::Instant::now();
        assert_eq!(wait_for(busy.as_mut(), Some(Duration::from_millis(30))).unwrap(), None);
        assert!(began.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn other_threads_wake_a_thread_that_waits() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let telling = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            tell.send(7).unwrap();
        });
        assert_eq!(wait(told).unwrap().unwrap(), 7);
        telling.join().unwrap();
    }
}
