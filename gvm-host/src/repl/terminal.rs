//! The REPL at a terminal: prompt, history, events above what is being typed.
//!
//! In: keys. Out: lines for the evaluator. Must not know: what the lines mean.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use reedline::{
    ColumnarMenu, Emacs, ExternalPrinter, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu,
    Signal, default_emacs_keybindings,
};

use crate::error::{Error, Result};
use crate::repl::above::{Typed, Watched};
use crate::repl::assist::{Complete, Highlight, Hint, Names};

/// Lines of history that are kept between runs.
const HISTORY: usize = 10_000;

/// What the menu of completions is called.
const MENU: &str = "completions";

/// What stands between the prompt's name and what is typed.
const INDICATOR: &str = " > ";

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
    /// An editor whose prompt shows this node's name and whose history lies in this file; it completes from
    /// these names. Raising the flag ends what is being typed.
    ///
    /// # Errors
    /// `INTERNAL` where the history cannot be read or written.
    pub fn open(
        node: &str,
        history: &Path,
        names: Names,
        colour: bool,
        flag: Arc<AtomicBool>,
    ) -> Result<Terminal> {
        let file = FileBackedHistory::with_file(HISTORY, history.to_owned())
            .map_err(|error| Error::internal(format!("history {}: {error}", history.display())))?;
        let prompt = NodePrompt(format!("({node})"));
        let (typed, width) = (Typed::default(), prompt.0.len() + INDICATOR.len());
        let printer = ExternalPrinter::new(WAITING);
        let sender = printer.sender();
        // One line for each, so that its signature stands beside it.
        let menu = ColumnarMenu::default().with_name(MENU).with_columns(1).with_marker(INDICATOR);
        let mut keys = default_emacs_keybindings();
        let next = ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.into()), ReedlineEvent::MenuNext]);
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, next);
        keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
        let editor = Reedline::create()
            .with_history(Box::new(file))
            .with_ansi_colors(colour)
            .with_completer(Box::new(Complete(names.clone())))
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_hinter(Box::new(Hint::new(names.clone())))
            .with_highlighter(Box::new(Watched(Highlight(names), typed.clone())))
            .with_break_signal(flag)
            .with_external_printer(printer);
        Ok(Terminal {
            editor,
            above: Arc::new(move |line| {
                // A terminal that does not tell its width is taken for a usual one.
                let columns = crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns));
                drop(sender.try_send(typed.correction(width, columns) + &line));
            }),
            prompt,
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
        Cow::Borrowed(INDICATOR)
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
