//! Shows the progress of long work.
//!
//! In: a description of the work, and how much is done if that is known. Out: one line on standard error,
//! after half a second and only on a terminal; it is removed when the work is done. Must not know: the work.

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter work shows nothing.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// The time between two updates.
pub const LOOK: Duration = Duration::from_millis(100);

/// One line of progress. Dropping it clears the line.
pub struct Progress {
    since: Instant,
    shown: Option<ProgressBar>,
    terminal: bool,
}

impl Progress {
    /// Returns the progress of work that begins now. Never shows anything if `terminal` is false.
    pub fn new(terminal: bool) -> Progress {
        Progress { since: Instant::now(), shown: None, terminal }
    }

    /// Like [`Progress::new`], with whether standard error is a terminal.
    pub fn on_stderr() -> Progress {
        Progress::new(io::stderr().is_terminal())
    }

    fn due(&self) -> bool {
        self.terminal && (self.shown.is_some() || self.since.elapsed() > PATIENCE)
    }

    fn show(&mut self, length: Option<u64>, template: &str) -> &ProgressBar {
        let since = self.since.elapsed();
        self.shown.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(template);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
            bar.with_style(style.progress_chars("=> ")).with_elapsed(since)
        })
    }

    /// Shows work of unknown length.
    pub fn busy(&mut self, what: impl Into<Cow<'static, str>>) {
        if self.due() {
            let bar = self.show(None, "{spinner} {msg} {elapsed}");
            bar.set_message(what);
            bar.tick();
        }
    }

    /// Shows how many of all bytes are done.
    pub fn bytes(&mut self, what: impl Into<Cow<'static, str>>, done: u64, all: u64) {
        if self.due() {
            let bar = self.show(Some(all), "{msg} [{bar:30}] {bytes}/{total_bytes} {eta}");
            bar.set_message(what);
            bar.set_position(done);
        }
    }

    /// Clears the line. The next work begins now.
    pub fn clear(&mut self) {
        if let Some(bar) = self.shown.take() {
            bar.finish_and_clear();
        }
        self.since = Instant::now();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Runs work on this thread, and shows its description if it takes long.
pub fn during<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let mut progress = Progress::on_stderr();
    std::thread::scope(|scope| {
        let (working, done) = mpsc::channel::<()>();
        scope.spawn(move || {
            while done.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                progress.busy(what.to_owned());
            }
        });
        let ended = work();
        drop(working);
        ended
    })
}

/// Waits for work, and shows its description if it takes long.
pub async fn patiently<T>(terminal: bool, what: &str, work: impl Future<Output = T>) -> T {
    let mut progress = Progress::new(terminal);
    let mut work = std::pin::pin!(work);
    let mut looks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = looks.tick(), if terminal => progress.busy(what.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_work_and_pipes_show_nothing() {
        let mut short = Progress::new(true);
        short.busy("work");
        assert!(short.shown.is_none());
        let mut piped = Progress::new(false);
        piped.since -= 2 * PATIENCE;
        piped.bytes("work", 1, 2);
        assert!(piped.shown.is_none());
        let mut long = Progress::new(true);
        long.since -= 2 * PATIENCE;
        long.bytes("work", 1, 2);
        assert!(long.shown.as_ref().is_some_and(|bar| bar.position() == 1));
        long.clear();
        assert!(long.shown.is_none());
    }
}
