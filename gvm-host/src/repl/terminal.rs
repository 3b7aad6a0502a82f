//! The REPL at a terminal: prompt, history, events above what is being typed.
//!
//! In: keys. Out: lines for the evaluator. Must not know: what the lines mean.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use reedline::{
    ExternalPrinter, FileBackedHistory, Prompt, PromptEditMode, PromptHistorySearch,
    PromptHistorySearchStatus, Reedline, Signal,
};

use crate::error::{Error, Result};

/// Lines of history that are kept between runs.
const HISTORY: usize = 10_000;

/// Events that wait to be shown above the prompt.
const WAITING: usize = 64;

/// The line editor.
pub struct Terminal {
    editor: Reedline,
    prompt: NodePrompt,
    above: Arc<dyn Fn(String) + Send + Sync>,
}

/// What came of asking for a line.
pub enum Line {
    Text(String),
    /// Ctrl-C: what was typed is dropped.
    Dropped,
    /// Ctrl-D, or that the flag was raised.
    End,
}

impl Terminal {
    /// An editor whose prompt shows this node's name and whose history lies in this file. Raising the flag
    /// ends what is being typed.
    ///
    /// # Errors
    /// `INTERNAL` where the history cannot be read or written.
    pub fn open(node: &str, history: &Path, colour: bool, flag: Arc<AtomicBool>) -> Result<Terminal> {
        let file = FileBackedHistory::with_file(HISTORY, history.to_owned())
            .map_err(|error| Error::internal(format!("history {}: {error}", history.display())))?;
        let printer = ExternalPrinter::new(WAITING);
        let sender = printer.sender();
        let editor = Reedline::create()
            .with_history(Box::new(file))
            .with_ansi_colors(colour)
            .with_break_signal(flag)
            .with_external_printer(printer);
        Ok(Terminal {
            editor,
            prompt: NodePrompt(format!("({node})")),
            above: Arc::new(move |line| drop(sender.try_send(line))),
        })
    }

    /// The next line.
    ///
    /// # Errors
    /// `INTERNAL` where the terminal fails.
    pub fn read(&mut self) -> Result<Line> {
        match self.editor.read_line(&self.prompt) {
            Ok(Signal::Success(line)) => Ok(Line::Text(line)),
            Ok(Signal::CtrlC) => Ok(Line::Dropped),
            Ok(_) => Ok(Line::End),
            Err(error) => Err(Error::io("the terminal", error)),
        }
    }

    /// Puts lines above the prompt, from any thread. A full queue drops them.
    pub fn above(&self) -> Arc<dyn Fn(String) + Send + Sync> {
        self.above.clone()
    }
}

struct NodePrompt(String);

impl Prompt for NodePrompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed(" > ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("… ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "no ",
        };
        Cow::Owned(format!(" ({failing}match for `{}`) ", search.term))
    }
}
