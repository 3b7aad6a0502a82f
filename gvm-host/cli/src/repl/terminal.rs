//! The line editor: prompt, history, completion, and events above the typed text.
//!
//! In: keys; lines to print above the prompt. Out: lines for the evaluator. Must not know: what the lines mean.

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reedline::{
    ColumnarMenu, Completer, CompletionResult, CompletionStatus, EditCommand, Emacs, ExternalPrinter,
    FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode, PromptHistorySearch,
    PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal, default_emacs_keybindings,
};
use rustix::process::kill_current_process_group;

use crate::repl::above::{Typed, Watched};
use crate::repl::assist::{Complete, Highlight, Hint, Names, Offered};
use crate::repl::keys::{Behind, Keys};
use crate::repl::render;
use gvm_host::{Error, Result};

/// The number of lines in the history.
const HISTORY: usize = 10_000;

/// The name of the menu of completions.
const MENU: &str = "completions";

/// The text between the prompt and the typed text.
const INDICATOR: &str = " > ";

/// The name of the command for Ctrl-Z.
const SUSPEND: &str = "suspend";

/// The number of lines that can wait to be printed above the prompt.
const WAITING: usize = 64;

/// The line editor.
pub struct Terminal {
    editor: Reedline,
    prompt: NodePrompt,
    above: Arc<dyn Fn(String) + Send + Sync>,
    typed: Typed,
    behind: Behind,
}

/// The result of reading a line.
#[derive(Debug, PartialEq)]
pub enum Line {
    Text(String),
    /// Ctrl-C, with the text that was typed.
    Dropped(String),
    /// Ctrl-D, or the flag was set.
    End,
}

impl Terminal {
    /// Returns an editor with the name of the node in the prompt, the history of this file, and completion of
    /// these names. Setting the flag ends the reading of a line.
    ///
    /// # Errors
    /// `INTERNAL` if the history cannot be created.
    pub fn open(
        node: &str,
        history: &Path,
        names: Names,
        colour: bool,
        flag: Arc<AtomicBool>,
    ) -> Result<Terminal> {
        let behind = Behind::default();
        let prompt = NodePrompt(format!("({node})"));
        let typed = Typed::default();
        let printer = ExternalPrinter::new(WAITING);
        let sender = printer.sender();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let above = Above {
            lines: lines.clone(),
            typed: typed.clone(),
            prompt: prompt.0.len() + INDICATOR.len(),
            print: Box::new(move |line| drop(sender.try_send(line))),
        };
        // One column, so that each name has its signature beside it.
        let menu = ColumnarMenu::default().with_name(MENU).with_columns(1).with_marker(INDICATOR);
        let mut keys = default_emacs_keybindings();
        let next = ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.into()), ReedlineEvent::MenuNext]);
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, next);
        keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
        keys.add_binding(
            KeyModifiers::CONTROL,
            KeyCode::Char('z'),
            ReedlineEvent::ExecuteHostCommand(SUSPEND.into()),
        );
        // Undo with Ctrl-_, which terminals send as Ctrl-7. Ctrl-Z suspends.
        keys.add_binding(
            KeyModifiers::CONTROL,
            KeyCode::Char('7'),
            ReedlineEvent::Edit(vec![EditCommand::Undo]),
        );
        let editor = Reedline::create()
            .with_history(Box::new(open_history(history)?))
            // As in shells: a line that begins with a space is not kept.
            .with_history_exclusion_prefix(Some(" ".into()))
            .use_bracketed_paste(true)
            .with_ansi_colors(colour)
            .with_completer(Box::new(Waiting(Complete(names.clone()), behind.clone(), above)))
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(Offered(menu))))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_edit_mode(Box::new(Keys(Emacs::new(keys), behind.clone())))
            .with_hinter(Box::new(Hint::new(names.clone())))
            .with_highlighter(Box::new(Watched(Highlight(names), typed.clone())))
            .with_break_signal(flag)
            .with_external_printer(printer);
        Ok(Terminal {
            editor,
            typed: typed.clone(),
            behind,
            above: Arc::new(move |line| {
                let mut lines = lock(&lines);
                // If the terminal is blocked (Ctrl-S), more lines are dropped.
                if lines.len() < WAITING {
                    lines.push(line);
                }
            }),
            prompt,
        })
    }

    /// Returns the next line.
    ///
    /// # Errors
    /// `INTERNAL` if the terminal fails.
    pub fn read(&mut self) -> Result<Line> {
        if let Some(line) = self.pending() {
            return Ok(Line::Text(line));
        }
        let begun = self.behind.take();
        self.put_back(begun);
        loop {
            let read = self.editor.read_line(&self.prompt);
            match read.map_err(|error| Error::io("cannot read from the terminal", error))? {
                Signal::Success(line) => {
                    // Saved at once: other nodes of this home share the history, and this process may crash.
                    if let Err(error) = self.editor.sync_history() {
                        tracing::debug!("cannot save the history: {error}");
                    }
                    return Ok(Line::Text(line));
                }
                Signal::CtrlC => return Ok(Line::Dropped(self.typed.take())),
                Signal::HostCommand(_) => suspend(),
                _ => return Ok(Line::End),
            }
        }
    }

    /// Returns the next line, if it was already typed completely.
    pub fn pending(&mut self) -> Option<String> {
        let line = self.behind.take_line()?;
        render::line(&format!("{}{INDICATOR}{line}", self.prompt.0));
        Some(line)
    }

    /// Makes the next line begin with this text.
    pub fn put_back(&mut self, text: String) {
        if !text.is_empty() {
            self.editor.run_edit_commands(&[EditCommand::InsertString(text)]);
        }
    }

    /// Returns a function that prints lines above the prompt. It can be called from any thread. A full queue
    /// drops lines.
    pub fn above(&self) -> Arc<dyn Fn(String) + Send + Sync> {
        self.above.clone()
    }
}

/// Suspends this process and those of its job until the shell continues them, as Ctrl-Z does while a call
/// runs. Without a shell that can continue them, the system does not suspend them.
fn suspend() {
    if let Err(error) = kill_current_process_group(rustix::process::Signal::TSTP) {
        tracing::debug!("cannot suspend the process: {error}");
    }
}

/// Opens the history in this file. A file that is not UTF-8 is repaired. If the file cannot be used, the
/// history lasts until the process exits.
fn open_history(file: &Path) -> Result<FileBackedHistory> {
    let open = || FileBackedHistory::with_file(HISTORY, file.to_owned());
    let repair = || {
        let bytes = std::fs::read(file)?;
        std::fs::write(file, String::from_utf8_lossy(&bytes).as_bytes())
    };
    let history = open().or_else(|error| repair().map_err(|_| error).and_then(|()| open()));
    history.or_else(|error| {
        render::note(&format!("warning: cannot use the history {}: {error}", file.display()));
        FileBackedHistory::new(HISTORY).map_err(|error| Error::internal(error.to_string()))
    })
}

/// A completer that notices when the line editor waits for keys.
struct Waiting(Complete, Behind, Above);

impl Completer for Waiting {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        self.0.complete(line, pos)
    }

    fn poll_completion(&mut self) -> CompletionStatus {
        self.1.waits();
        self.2.hand_on();
        self.0.poll_completion()
    }
}

/// Lines to print above the prompt. They are printed while the line editor waits for keys: only then is the
/// cursor where it was drawn last.
struct Above {
    lines: Arc<Mutex<Vec<String>>>,
    typed: Typed,
    /// The width of the prompt.
    prompt: usize,
    print: Box<dyn Fn(String) + Send>,
}

impl Above {
    fn hand_on(&self) {
        let lines = std::mem::take(&mut *lock(&self.lines));
        if lines.is_empty() {
            return;
        }
        let (down, begins) = self.typed.correction(self.prompt, render::columns());
        // Line feeds move the cursor down, and scroll at the last row.
        render::prompt(&"\n".repeat(down));
        (self.print)(begins + &lines.join("\n"));
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
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
