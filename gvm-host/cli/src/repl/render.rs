//! What came of a call, written where people and programs read it.
//!
//! In: output as it is written, results, errors. Out: text on standard output and error; JSON where that
//! was asked for. The only place besides `bin/` that prints. Must not know: how calls are made.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

use crate::repl::point;
use crate::repl::progress::{LOOK, Progress};
use crate::repl::stdio;
use gvm_host::Stdio;
use gvm_host::text::inert;
use gvm_host::text::sanitize::Sanitizer;
use gvm_host::{Broken, Chunk, Outcome, Stream};
use gvm_host::{Effect, Error};

/// Whether the terminal's row holds what a guest wrote and has not ended. There is one terminal.
static ROW_OPEN: AtomicBool = AtomicBool::new(false);

/// Standard output and error of this process, and what they are connected to.
pub struct Screen {
    pub stdout_terminal: bool,
    pub stderr_terminal: bool,
    /// Whether errors are coloured: on a terminal, unless `NO_COLOR` is set.
    pub colour: bool,
    stdout: Side,
    stderr: Side,
}

#[derive(Default)]
struct Side {
    sanitizer: Sanitizer,
    /// Whether this call has written anything here, and whether its last line is open.
    wrote: bool,
    open: bool,
}

impl Screen {
    /// The process's own. `no_colour` is what the environment says.
    pub fn new(no_colour: bool) -> Screen {
        let stderr_terminal = io::stderr().is_terminal();
        Screen {
            stdout_terminal: io::stdout().is_terminal(),
            stderr_terminal,
            colour: stderr_terminal && !no_colour,
            stdout: Side::default(),
            stderr: Side::default(),
        }
    }

    /// What a guest wrote as it is to be shown: as it is in a pipe, harmless on a terminal.
    fn guest(&mut self, chunks: Vec<Chunk>) -> Vec<Chunk> {
        let mut shown = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let (side, terminal) = match chunk.stream {
                Stream::Stdout => (&mut self.stdout, self.stdout_terminal),
                Stream::Stderr => (&mut self.stderr, self.stderr_terminal),
            };
            let data = match terminal {
                true => side.sanitizer.feed(&chunk.data).into_bytes(),
                false => chunk.data,
            };
            side.note(&data, terminal);
            shown.push(Chunk { stream: chunk.stream, data });
        }
        shown
    }

    /// Ends a call's output: what is incomplete is shown, and an open line is closed where something
    /// follows it. Says whether the guest wrote anything.
    pub fn end_guest(&mut self, follows: bool) -> bool {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (side, terminal) = match stream {
                Stream::Stdout => (&mut self.stdout, self.stdout_terminal),
                Stream::Stderr => (&mut self.stderr, self.stderr_terminal),
            };
            let rest = side.sanitizer.finish();
            side.note(rest.as_bytes(), terminal);
            write(stream, rest.as_bytes());
            if side.open && (terminal || follows && stream == Stream::Stdout) {
                write(stream, b"\n");
            }
        }
        let wrote = self.stdout.wrote || self.stderr.wrote;
        self.stdout = Side::default();
        self.stderr = Side::default();
        ROW_OPEN.store(false, Ordering::Relaxed);
        wrote
    }

    /// A line of our own.
    pub fn line(&mut self, text: &str) {
        line(text);
    }

    /// Lines that hold words of modules, made inert.
    pub fn quoted(&mut self, text: &str) {
        line(&inert::lines(text));
    }

    /// A line of JSON.
    pub fn json(&mut self, value: &serde_json::Value) {
        json(value);
    }

    /// A line for a person beside what programs read.
    pub fn note(&mut self, text: &str) {
        note(text);
    }

    /// A coded error.
    pub fn error(&mut self, error: &Error) {
        if stdio::is_cut(error) {
            return;
        }
        let text =
            if self.stderr_terminal { point::fit(&error.to_string(), columns()) } else { error.to_string() };
        let code = error.code().as_str();
        let line = match text.strip_prefix(code) {
            Some(rest) if self.colour => format!("{}{rest}\n", nu_ansi_term::Color::Red.bold().paint(code)),
            _ => format!("{text}\n"),
        };
        write(Stream::Stderr, line.as_bytes());
    }
}

impl Side {
    fn note(&mut self, bytes: &[u8], terminal: bool) {
        if let Some(last) = bytes.last() {
            self.wrote = true;
            self.open = *last != b'\n';
            if terminal {
                ROW_OPEN.store(self.open, Ordering::Relaxed);
            }
        }
    }
}

/// Waits for a call and shows what it writes meanwhile; keeps it instead where `keep` says so. Dropping
/// the future takes the call back even where whoever reads our output has stopped to.
pub async fn watch(
    screen: &mut Screen,
    keep: bool,
    stdio: &Stdio,
    running: impl Future<Output = Outcome>,
) -> (Outcome, Vec<Chunk>) {
    let Stdio { output, preparing, .. } = stdio;
    let mut progress = Progress::new(screen.stderr_terminal);
    let mut looks = tokio::time::interval(LOOK);
    let mut kept = Vec::new();
    let mut writing: Option<JoinHandle<Vec<(Stream, io::Error)>>> = None;
    let mut lost: Option<Error> = None;
    let mut running = std::pin::pin!(running);
    let mut ended = None;
    loop {
        tokio::select! {
            biased;
            written = async { match writing.as_mut() {
                Some(writing) => writing.await,
                None => std::future::pending().await,
            }}, if writing.is_some() => {
                writing = None;
                for (stream, error) in written.unwrap_or_default() {
                    output.fail(stream, Broken::from(&error));
                    lost.get_or_insert_with(|| stdio::error(named(stream), error));
                }
            }
            chunks = output.next(), if writing.is_none() => match keep {
                true => kept.extend(chunks),
                false => {
                    progress.clear();
                    writing = Some(write_aside(screen.guest(chunks)));
                }
            },
            outcome = &mut running, if ended.is_none() => {
                progress.clear();
                ended = Some(outcome);
            }
            _ = looks.tick(), if screen.stderr_terminal && ended.is_none() => match preparing.what() {
                Some(what) => progress.busy(what),
                None => progress.clear(),
            },
        }
        if ended.is_some() && writing.is_none() {
            match output.take() {
                rest if rest.is_empty() => break,
                rest if keep => {
                    kept.extend(rest);
                    break;
                }
                rest => writing = Some(write_aside(screen.guest(rest))),
            }
        }
    }
    let mut outcome = ended.unwrap_or_else(|| Outcome::failed(Error::internal("the call has no outcome")));
    // A guest that failed over it, or otherwise, says more than that its output is lost.
    if let Some(error) = lost
        && outcome.result.is_ok()
    {
        outcome.result = Err(error.with_effect(Effect::RanAndFailed));
    }
    (outcome, kept)
}

/// Writes on a thread that may block. Says which streams failed; the other one has all that was for it.
fn write_aside(chunks: Vec<Chunk>) -> JoinHandle<Vec<(Stream, io::Error)>> {
    tokio::task::spawn_blocking(move || {
        let mut failed: Vec<(Stream, io::Error)> = Vec::new();
        for chunk in chunks {
            if failed.iter().any(|(stream, _)| *stream == chunk.stream) {
                continue;
            }
            if let Err(error) = stdio::write(chunk.stream, &chunk.data) {
                failed.push((chunk.stream, error));
            }
        }
        failed
    })
}

fn named(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "standard output",
        Stream::Stderr => "standard error",
    }
}

/// A line on standard output, whole whoever else writes.
pub fn line(text: &str) {
    write(Stream::Stdout, format!("{text}\n").as_bytes());
}

/// A line of JSON on standard output, which no value in it can make act on a terminal.
pub fn json(value: &serde_json::Value) {
    line(&inert::json(&value.to_string()));
}

/// A line on standard error.
pub fn note(text: &str) {
    // What others said is no more trusted than a guest's output.
    write(Stream::Stderr, format!("{}\n", inert::lines(text)).as_bytes());
}

/// A line for a person while a call runs: on a row of its own, wherever the guest's last one ended.
pub fn beside(text: &str) {
    if ROW_OPEN.swap(false, Ordering::Relaxed) {
        write(Stream::Stderr, b"\n");
    }
    note(text);
}

/// The prompt of a terminal that has no line editor: beside what programs read, where that is possible.
pub fn prompt(text: &str) {
    let beside = io::stderr().is_terminal();
    if beside || io::stdout().is_terminal() {
        write(if beside { Stream::Stderr } else { Stream::Stdout }, text.as_bytes());
    }
}

/// The terminal's width. One that does not tell it is taken for a usual one.
pub fn columns() -> usize {
    crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns))
}

/// Writes. What standard output does not take is told when the process leaves: see [`stdio::settle`].
fn write(stream: Stream, bytes: &[u8]) {
    if let Err(error) = stdio::write(stream, bytes) {
        tracing::debug!("output is lost: {error}");
    }
}
