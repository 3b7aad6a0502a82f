//! Sources of lines: the line editor, a terminal without one, a script.
//!
//! In: keys, bytes of standard input. Out: lines. Must not know: what the lines mean.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use gvm_cli::repl::lines::Open;
use gvm_cli::repl::terminal::{Line, Terminal};
use gvm_cli::repl::{render, stdio};
use gvm_host::{Code, Error, Result, workers};
use tokio::sync::mpsc;

use super::signals::{Requests, interrupt};

/// How long to wait for the next line of a pasted text.
const PASTED: Duration = Duration::from_millis(50);

/// The lines of standard input, and the number of lines that were returned.
pub struct Lines(mpsc::Receiver<Result<String>>, usize);

impl Lines {
    /// Starts to read on a thread of its own, because a read cannot be cancelled. The thread ends with the
    /// process.
    ///
    /// # Errors
    /// `INTERNAL` if the system cannot start the thread.
    pub fn of_stdin() -> Result<Lines> {
        let (line, lines) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("gvm-lines".into())
            .spawn(move || {
                let mut input = std::io::BufReader::new(stdio::Stdin);
                let mut number = 0;
                while let Some(read) = next_line(&mut input, &mut number) {
                    if line.blocking_send(read).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| Error::io("cannot start the thread that reads lines", error))?;
        Ok(Lines(lines, 0))
    }

    /// Returns the next line; `None` at the end, or after a request to end.
    ///
    /// # Errors
    /// `SYNTAX` if the line is not UTF-8; `INTERNAL` if it cannot be read.
    pub async fn next(&mut self, requests: &Requests) -> Result<Option<String>> {
        tokio::select! {
            biased;
            () = requests.asked() => Ok(None),
            line = self.0.recv() => line.transpose(),
        }
    }

    /// Returns the next statement and the number of its first line. A statement continues over lines within
    /// brackets and triple quotes.
    ///
    /// # Errors
    /// Those of [`Lines::next`].
    pub async fn statement(&mut self, requests: &Requests) -> Result<Option<(usize, String)>> {
        let begins = self.1 + 1;
        let (mut open, mut statement) = (Open::default(), String::new());
        while let Some(line) = self.next(requests).await? {
            self.1 += 1;
            statement += &line;
            if !open.feed(&line) {
                return Ok(Some((begins, statement)));
            }
            statement.push('\n');
        }
        // The parser reports what is still open.
        Ok((!statement.is_empty()).then_some((begins, statement)))
    }
}

fn next_line(input: &mut impl BufRead, number: &mut usize) -> Option<Result<String>> {
    let mut bytes = Vec::new();
    match input.by_ref().read_until(b'\n', &mut bytes) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(error) => return Some(Err(Error::io("cannot read standard input", error))),
    }
    *number += 1;
    let ended = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let line = ended.strip_suffix(b"\r").unwrap_or(ended);
    // Some editors write a byte order mark at the beginning of a file.
    let line = if *number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
    let not_text = |_| Error::new(Code::Syntax, format!("line {number} is not UTF-8"));
    Some(String::from_utf8(line.to_vec()).map_err(not_text))
}

/// The source of lines that the user types.
pub enum Keyboard {
    Editor(Box<Terminal>),
    /// For a terminal without cursor control, or output that is not a terminal. The terminal driver edits the
    /// line.
    Plain {
        lines: Lines,
        prompt: String,
    },
}

impl Keyboard {
    /// Returns whether the line editor can be used.
    pub fn has_editor() -> bool {
        !is_dumb() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Returns the next line.
    ///
    /// # Errors
    /// `INTERNAL` if the terminal fails.
    pub fn read(&mut self, requests: &Requests) -> Result<Line> {
        match self {
            Keyboard::Editor(terminal) => terminal.read(),
            Keyboard::Plain { lines, prompt } => {
                render::prompt(prompt);
                workers()?.block_on(async {
                    tokio::select! {
                        () = interrupt() => {
                            render::prompt("\n");
                            Ok(Line::Dropped(String::new()))
                        }
                        line = lines.next(requests) => line.map(|line| line.map_or(Line::End, Line::Text)),
                    }
                })
            }
        }
    }

    /// Returns the next line if it was already typed, for example if several lines were pasted.
    pub fn pending(&mut self) -> Option<String> {
        match self {
            Keyboard::Editor(terminal) => terminal.pending(),
            Keyboard::Plain { lines, .. } => {
                let next =
                    workers().ok()?.block_on(async { tokio::time::timeout(PASTED, lines.0.recv()).await });
                next.ok()??.ok()
            }
        }
    }

    /// Makes the next line begin with this text.
    pub fn put_back(&mut self, text: String) {
        if let Keyboard::Editor(terminal) = self {
            terminal.put_back(text);
        }
    }

    /// Returns a function that prints lines above what is being typed. It can be called from any thread.
    pub fn above(&self) -> Arc<dyn Fn(String) + Send + Sync> {
        match self {
            Keyboard::Editor(terminal) => terminal.above(),
            Keyboard::Plain { prompt, .. } => {
                let prompt = prompt.clone();
                Arc::new(move |line| {
                    render::prompt("\n");
                    render::note(&line);
                    render::prompt(&prompt);
                })
            }
        }
    }
}

/// Returns whether the terminal does not understand control sequences.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_kind() {
        let mut input = &b"\xef\xbb\xbfone\r\n\xff\n\nlast"[..];
        let mut number = 0;
        let mut next = || next_line(&mut input, &mut number);
        assert_eq!(next().unwrap().unwrap(), "one");
        assert!(next().unwrap().unwrap_err().message().contains("line 2"));
        assert_eq!(next().unwrap().unwrap(), "");
        assert_eq!(next().unwrap().unwrap(), "last");
        assert!(next().is_none());
    }
}
