//! The REPL at a terminal: prompt, history, events above what is being typed.
//!
//! In: keys. Out: lines for the evaluator. Must not know: what the lines mean.

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

/// Lines of history that are kept between runs.
const HISTORY: usize = 10_000;

/// What the menu of completions is called.
const MENU: &str = "completions";

/// What stands between the prompt's name and what is typed.
const INDICATOR: &str = " > ";

/// What Ctrl-Z is called.
const SUSPEND: &str = "suspend";

/// Events that wait to be shown above the prompt.
const WAITING: usize = 64;

/// The line editor.
pub struct Terminal {
    editor: Reedline,
    prompt: NodePrompt,
    above: Arc<dyn Fn(String) + Send + Sync>,
    typed: Typed,
    behind: Behind,
}

/// What came of asking for a line.
#[derive(Debug, PartialEq)]
pub enum Line {
    Text(String),
    /// Ctrl-C: what was typed is dropped; this is it.
    Dropped(String),
    /// Ctrl-D, or that the flag was raised.
    End,
}

impl Terminal {
    /// An editor whose prompt shows this node's name and whose history lies in this file; it completes from
    /// these names. Raising the flag ends what is being typed.
    ///
    /// # Errors
    /// `INTERNAL`.
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
        // One line for each, so that its signature stands beside it.
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
        // Ctrl-_, as terminals send it; Ctrl-Z is another's.
        keys.add_binding(
            KeyModifiers::CONTROL,
            KeyCode::Char('7'),
            ReedlineEvent::Edit(vec![EditCommand::Undo]),
        );
        let editor = Reedline::create()
            .with_history(Box::new(remembered(history)?))
            // As in every shell: what is not to be remembered begins with a space.
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
                // A terminal that takes nothing (Ctrl-S) is not waited for.
                if lines.len() < WAITING {
                    lines.push(line);
                }
            }),
            prompt,
        })
    }

    /// The next line.
    ///
    /// # Errors
    /// `INTERNAL` where the terminal fails.
    pub fn read(&mut self) -> Result<Line> {
        if let Some(line) = self.pending() {
            return Ok(Line::Text(line));
        }
        let begun = self.behind.take();
        self.put_back(begun);
        loop {
            let read = self.editor.read_line(&self.prompt);
            match read.map_err(|error| Error::io("the terminal", error))? {
                Signal::Success(line) => {
                    // At once: another node of this home may have it, and this one may not end in order.
                    if let Err(error) = self.editor.sync_history() {
                        tracing::debug!("the history is not kept: {error}");
                    }
                    return Ok(Line::Text(line));
                }
                Signal::CtrlC => return Ok(Line::Dropped(self.typed.take())),
                Signal::HostCommand(_) => suspend(),
                _ => return Ok(Line::End),
            }
        }
    }

    /// The next line where it has been typed already, whole.
    pub fn pending(&mut self) -> Option<String> {
        let line = self.behind.take_line()?;
        render::line(&format!("{}{INDICATOR}{line}", self.prompt.0));
        Some(line)
    }

    /// Has the next line begin with this.
    pub fn put_back(&mut self, text: String) {
        if !text.is_empty() {
            self.editor.run_edit_commands(&[EditCommand::InsertString(text)]);
        }
    }

    /// Puts lines above the prompt, from any thread. A full queue drops them.
    pub fn above(&self) -> Arc<dyn Fn(String) + Send + Sync> {
        self.above.clone()
    }
}

/// Stops this process and those of its job until the shell wakes them, as Ctrl-Z does while a call runs. Where
/// no shell could, the system does not stop them.
fn suspend() {
    if let Err(error) = kill_current_process_group(rustix::process::Signal::TSTP) {
        tracing::debug!("cannot be suspended: {error}");
    }
}

/// The history of this file. One that cannot be used must not keep anybody from working: its lines are mended
/// where they are no text, else this run's are remembered for itself.
fn remembered(file: &Path) -> Result<FileBackedHistory> {
    let open = || FileBackedHistory::with_file(HISTORY, file.to_owned());
    let mend = || {
        let bytes = std::fs::read(file)?;
        std::fs::write(file, String::from_utf8_lossy(&bytes).as_bytes())
    };
    let history = open().or_else(|error| mend().map_err(|_| error).and_then(|()| open()));
    history.or_else(|error| {
        render::note(&format!("The history {} is not kept: {error}", file.display()));
        FileBackedHistory::new(HISTORY).map_err(|error| Error::internal(error.to_string()))
    })
}

/// A completer that tells when the line editor waits for keys.
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

/// Lines that are to stand above the prompt. Only while the line editor waits does the cursor stand where it was
/// drawn last: then they are handed on.
struct Above {
    lines: Arc<Mutex<Vec<String>>>,
    typed: Typed,
    /// The prompt's width.
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
        // Line feeds: at the last row they make room.
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
