//! Writes output, results and errors to the screen.
//!
//! In: output of guests, results, errors, notes. Out: text and JSON on standard output and standard error.
//! Must not know: how calls are made.

use std::io::{self, IsTerminal};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};

use nu_ansi_term::Color;

use crate::repl::point;
use crate::repl::progress::{LOOK, Progress};
use crate::repl::stdio;
use gvm_host::text::inert;
use gvm_host::text::sanitize::Sanitizer;
use gvm_host::{Broken, Chunk, Effect, Error, Outcome, Stdio, Stream};

/// Whether the last line of a guest on the terminal has no line feed yet. A process has one terminal.
static ROW_OPEN: AtomicBool = AtomicBool::new(false);

/// Standard output and error of this process, and what they are connected to.
pub struct Screen {
    pub stdout_terminal: bool,
    pub stderr_terminal: bool,
    /// Whether errors have colours: on a terminal, unless the environment asks for none.
    pub colour: bool,
    stdout: Side,
    stderr: Side,
}

#[derive(Default)]
struct Side {
    sanitizer: Sanitizer,
    /// Whether this call has written anything, and whether its last line has no line feed yet.
    wrote: bool,
    open: bool,
}

impl Screen {
    /// Returns the screen of this process. `no_colour` is whether the environment asks for no colours.
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

    /// Converts the output of a guest: made harmless for a terminal, unchanged for a pipe.
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

    /// Ends the output of a call: writes incomplete characters, and a line feed if a line is open and more
    /// output follows. Returns whether the guest wrote anything.
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

    /// Writes a line to standard output.
    pub fn line(&mut self, text: &str) {
        line(text);
    }

    /// Writes lines with text from modules, which must not control the terminal.
    pub fn quoted(&mut self, text: &str) {
        line(&inert::lines(text));
    }

    /// Writes a line of JSON to standard output.
    pub fn json(&mut self, value: &serde_json::Value) {
        json(value);
    }

    /// Writes a line to standard error.
    pub fn note(&mut self, text: &str) {
        note(text);
    }

    /// Writes an error to standard error.
    pub fn error(&mut self, error: &Error) {
        if stdio::is_cut(error) {
            return;
        }
        let text = error.to_string();
        let text = if self.stderr_terminal { point::fit(&text, columns()) } else { text };
        let text = if self.colour { coloured(&text, error) } else { text };
        write(Stream::Stderr, format!("{text}\n").as_bytes());
    }
}

/// Returns the text of an error with colours for its code, in front, and for the label of its help, in the
/// last line.
fn coloured(text: &str, error: &Error) -> String {
    let code = error.code().as_str();
    let rest = text.strip_prefix(code).unwrap_or(text);
    let code = Color::Red.bold().paint(code);
    match error.help().and_then(|_| rest.rsplit_once("\nhelp:")) {
        Some((rest, help)) => format!("{code}{rest}\n{}{help}", Color::Cyan.paint("help:")),
        None => format!("{code}{rest}"),
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

/// Waits for a call and shows its output; with `keep`, returns the output instead. Dropping the future
/// cancels the call, even if the reader of standard output is blocked.
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
    let mut writing: Option<Writing> = None;
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
                for (stream, error) in written {
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
    // If the guest failed too, its own error says more than that output was lost.
    if let Some(error) = lost
        && outcome.result.is_ok()
    {
        outcome.result = Err(error.with_effect(Effect::RanAndFailed));
    }
    (outcome, kept)
}

/// Output on its way. In the end: the streams that failed; the other stream has all of its output.
type Writing = Pin<Box<dyn Future<Output = Vec<(Stream, io::Error)>>>>;

/// Writes at once what the streams take without waiting, and the rest on a thread that may block.
fn write_aside(mut chunks: Vec<Chunk>) -> Writing {
    while let Some(chunk) = chunks.first_mut() {
        let written = stdio::write_now(chunk.stream, &chunk.data);
        if written < chunk.data.len() {
            chunk.data.drain(..written);
            let writing = tokio::task::spawn_blocking(move || write_all(chunks));
            return Box::pin(async move { writing.await.unwrap_or_default() });
        }
        chunks.remove(0);
    }
    Box::pin(std::future::ready(Vec::new()))
}

fn write_all(chunks: Vec<Chunk>) -> Vec<(Stream, io::Error)> {
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
}

fn named(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "standard output",
        Stream::Stderr => "standard error",
    }
}

/// Writes a line to standard output. Other writers cannot interrupt it.
pub fn line(text: &str) {
    write(Stream::Stdout, format!("{text}\n").as_bytes());
}

/// Writes a line of JSON to standard output. Values in it cannot control the terminal.
pub fn json(value: &serde_json::Value) {
    line(&inert::json(&value.to_string()));
}

/// Writes a line to standard error.
pub fn note(text: &str) {
    // Text from other nodes is not trusted, like the output of a guest.
    write(Stream::Stderr, format!("{}\n", inert::lines(text)).as_bytes());
}

/// Writes a line to standard error while a call runs, on a row of its own.
pub fn beside(text: &str) {
    if ROW_OPEN.swap(false, Ordering::Relaxed) {
        write(Stream::Stderr, b"\n");
    }
    note(text);
}

/// Writes the prompt if there is no line editor: to standard error if that is a terminal, else to standard
/// output.
pub fn prompt(text: &str) {
    let beside = io::stderr().is_terminal();
    if beside || io::stdout().is_terminal() {
        write(if beside { Stream::Stderr } else { Stream::Stdout }, text.as_bytes());
    }
}

/// Returns the width of the terminal; 80 if it is not known.
pub fn columns() -> usize {
    crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns))
}

/// Writes. The process reports a failure of standard output when it exits: see [`stdio::settle`].
fn write(stream: Stream, bytes: &[u8]) {
    if let Err(error) = stdio::write(stream, bytes) {
        tracing::debug!("cannot write output: {error}");
    }
}

#[cfg(test)]
mod tests {
    use gvm_host::Code;

    use super::*;

    #[test]
    fn errors_have_colours_at_their_code_and_their_help() {
        let error = Error::new(Code::Trap, "no").with_context("  at f\nhelp: forged");
        assert_eq!(coloured(&error.to_string(), &error), "\x1b[1;31mTRAP\x1b[0m: no\n  at f\nhelp: forged");
        let error = error.with_help("do it");
        assert_eq!(
            coloured(&error.to_string(), &error),
            "\x1b[1;31mTRAP\x1b[0m: no\n  at f\nhelp: forged\n\x1b[36mhelp:\x1b[0m do it"
        );
    }
}
