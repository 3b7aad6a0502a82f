//! What came of a call, written where people and programs read it.
//!
//! In: output as it is written, results, errors. Out: text on standard output and error; JSON where that
//! was asked for. The only place besides `bin/` that prints. Must not know: how calls are made.

use std::io::{self, IsTerminal, Write};

use crate::call::{Chunk, Stream};
use crate::error::Error;
use crate::repl::sanitize::Sanitizer;

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

    /// Shows what a guest wrote, as it is in a pipe, harmless on a terminal.
    pub fn guest(&mut self, chunks: &[Chunk]) {
        for chunk in chunks {
            let (side, terminal) = match chunk.stream {
                Stream::Stdout => (&mut self.stdout, self.stdout_terminal),
                Stream::Stderr => (&mut self.stderr, self.stderr_terminal),
            };
            let clean;
            let bytes = match terminal {
                true => {
                    clean = side.sanitizer.feed(&chunk.data);
                    clean.as_bytes()
                }
                false => &chunk.data,
            };
            side.note(bytes);
            write(chunk.stream, bytes);
        }
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
            side.note(rest.as_bytes());
            write(stream, rest.as_bytes());
            if side.open && (terminal || follows && stream == Stream::Stdout) {
                write(stream, b"\n");
            }
        }
        let wrote = self.stdout.wrote || self.stderr.wrote;
        self.stdout = Side::default();
        self.stderr = Side::default();
        wrote
    }

    /// A line of our own.
    pub fn line(&mut self, text: &str) {
        write(Stream::Stdout, text.as_bytes());
        write(Stream::Stdout, b"\n");
    }

    /// A coded error.
    pub fn error(&mut self, error: &Error) {
        // What a guest or a peer put into the message is no more trusted than its output.
        let text = if self.stderr_terminal {
            Sanitizer::default().feed(error.to_string().as_bytes())
        } else {
            error.to_string()
        };
        let code = error.code().as_str();
        let line = match text.strip_prefix(code) {
            Some(rest) if self.colour => format!("{}{rest}\n", nu_ansi_term::Color::Red.bold().paint(code)),
            _ => format!("{text}\n"),
        };
        write(Stream::Stderr, line.as_bytes());
    }
}

impl Side {
    fn note(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.wrote = true;
            self.open = *last != b'\n';
        }
    }
}

/// Writes and flushes. A reader that has gone is not our failure: its own end tells it.
fn write(stream: Stream, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let written = match stream {
        Stream::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Stderr => io::stderr().lock().write_all(bytes),
    };
    if let Err(error) = written {
        tracing::debug!("output is lost: {error}");
    }
}

/// The first part of an error as `--json` gives it.
pub fn error_json(error: &Error) -> serde_json::Value {
    let mut json = serde_json::json!({
        "code": error.code().as_str(),
        "message": error.message(),
        "outcome": error.effect().as_str(),
    });
    if let Some(context) = error.context() {
        json["context"] = context.into();
    }
    if let Some(status) = error.exit() {
        json["exit"] = status.into();
    }
    json
}
