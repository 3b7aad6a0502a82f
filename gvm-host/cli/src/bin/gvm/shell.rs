//! The REPL, scripts, `gvm eval` and `gvm serve`.
//!
//! In: options; lines from a keyboard, a script or the command line; events of the node. Out: each line run
//! by the evaluator, events on the screen, an exit status. Must not know: what statements mean.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gvm_cli::repl::assist::Names;
use gvm_cli::repl::eval::{Evaluator, Flow};
use gvm_cli::repl::events;
use gvm_cli::repl::events::Questions;
use gvm_cli::repl::lines;
use gvm_cli::repl::render;
use gvm_cli::repl::render::Screen;
use gvm_cli::repl::stdio;
use gvm_cli::repl::terminal::{Line, Terminal};
use gvm_host::text::inert;
use gvm_host::{Code, Event, Handle, Result, parse, wait, workers};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::keyboard::{Keyboard, Lines};
use super::options::Options;
use super::signals::{Requests, interrupt};
use super::{cancelled, memory, no_colour, status};

/// How long to wait for the last events after the node has shut down: they are already in the queue.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// How long the line editor may take to return after a request to end.
const UNHEARD: Duration = Duration::from_secs(1);

/// Starts a node and runs what is typed; runs a script if standard input is not a terminal.
pub fn repl(options: &Options) -> Result<i32> {
    let (home, terminal) = (options.home()?, std::io::stdin().is_terminal());
    let history = home.history();
    let changes: &[PathBuf] = if terminal { std::slice::from_ref(&history) } else { &[] };
    let home = options.confine_node(&home, changes)?;
    let node = workers()?.block_on(Handle::start(options.node_config(home, true)?))?;
    memory::give_back();
    let mut shell = Shell::new(options, node, Requests::catch()?)?;
    if terminal {
        shell.evaluator.screen.line(&banner(&shell.evaluator.node));
        shell.interact(history)
    } else {
        shell.script()
    }
}

/// Runs the given statements.
pub fn eval(options: &Options, exprs: Vec<String>) -> Result<i32> {
    // Syntax errors are reported before a node is started.
    exprs.iter().try_for_each(|expr| parse::statement(expr).map(drop))?;
    let home = options.confine_node(&options.home()?, &[])?;
    let node = workers()?.block_on(Handle::start(options.node_config(home, false)?))?;
    let mut exprs = exprs.into_iter();
    Shell::new(options, node, Requests::catch()?)?.batch(false, |_| Ok(exprs.next().map(|expr| (0, expr))))
}

/// Runs a node without a prompt until it is told to end.
pub fn serve(options: &Options) -> Result<i32> {
    let home = options.confine_node(&options.home()?, &[])?;
    let node = workers()?.block_on(Handle::start(options.node_config(home, true)?))?;
    memory::give_back();
    Shell::new(options, node, Requests::catch()?)?.serve()
}

/// Returns the first line that the user sees.
pub fn banner(node: &Handle) -> String {
    format!("GVM has been created {} ({})", node.name(), node.info().id)
}

/// An evaluator, and the loop that feeds it with lines.
pub struct Shell {
    pub evaluator: Evaluator,
    /// A folder to remove if the process has to exit while it reads a line.
    pub leavings: Option<PathBuf>,
    requests: Requests,
}

impl Shell {
    /// Returns a shell for this node; it shuts the node down when a request to end comes.
    pub fn new(options: &Options, node: Handle, requests: Requests) -> Result<Shell> {
        let screen = Screen::new(no_colour());
        let evaluator =
            Evaluator { node, screen, limits: options.limits()?, json: options.json, line: String::new() };
        Ok(Shell { evaluator, leavings: None, requests })
    }

    /// Runs one statement. Ctrl-C stops it, and nothing else.
    fn line(&mut self, line: &str) -> Result<Flow> {
        let statement = parse::statement(line)?;
        line.clone_into(&mut self.evaluator.line);
        wait(async {
            tokio::select! {
                biased;
                () = interrupt() => Err(cancelled()),
                () = self.requests.asked() => Err(cancelled()),
                flow = self.evaluator.execute(statement) => flow,
            }
        })?
    }

    /// Runs statements of a script or of the command line, each with the number of its first line. The first
    /// error ends the run; for a script, the error shows the line number.
    fn batch(
        mut self,
        script: bool,
        mut next: impl FnMut(&Requests) -> Result<Option<(usize, String)>>,
    ) -> Result<i32> {
        let events = self.evaluator.node.events();
        let watching = workers()?.spawn(watch_for_programs(events, self.evaluator.json));
        let (mut ended, mut number) = (0, 0);
        while let Some(read) = next(&self.requests).transpose() {
            number += 1;
            let done = read.and_then(|(begins, statement)| {
                number = begins;
                self.line(&statement)
            });
            // Output that is lost ends the run like an error.
            match done.and_then(|flow| stdio::lost().map_or(Ok(flow), Err)) {
                Ok(Flow::On) => {}
                Ok(Flow::Exit) => break,
                Err(error) => {
                    self.evaluator.screen.end_guest(true);
                    ended = status(&error);
                    if !(self.evaluator.json && error.code() == Code::GuestExit) {
                        let error = match script {
                            true => error.with_context(format!("  in line {number} of the script")),
                            false => error,
                        };
                        self.evaluator.screen.error(&error);
                    }
                    break;
                }
            }
        }
        let asked = self.requests.status();
        self.leave(watching)?;
        Ok(asked.unwrap_or(ended))
    }

    /// Waits for a request to end, which is the usual way for `gvm serve` to end.
    fn serve(mut self) -> Result<i32> {
        let Evaluator { node, screen, json, .. } = &mut self.evaluator;
        let watching = workers()?.spawn(watch_for_programs(node.events(), *json));
        match json {
            true => screen.json(&events::started(node.info())),
            false => screen.line(&banner(node)),
        }
        workers()?.block_on(async {
            tokio::select! { () = interrupt() => {}, () = self.requests.asked() => {} }
        });
        self.leave(watching)?;
        Ok(0)
    }

    /// Runs the lines of standard input.
    pub fn script(self) -> Result<i32> {
        let mut lines = Lines::of_stdin()?;
        self.batch(true, move |requests| workers()?.block_on(lines.statement(requests)))
    }

    /// Runs the lines that the user types.
    pub fn interact(mut self, history: PathBuf) -> Result<i32> {
        let colour = self.evaluator.screen.stdout_terminal && self.evaluator.screen.colour;
        let (node, flag) = (self.evaluator.node.clone(), self.requests.flag.clone());
        let mut keyboard = if Keyboard::has_editor() {
            let names = Names::of(node.clone(), workers()?.handle().clone());
            let terminal = Terminal::open(node.name().as_str(), &history, names, colour, flag)?;
            Keyboard::Editor(Box::new(terminal))
        } else {
            Keyboard::Plain { lines: Lines::of_stdin()?, prompt: format!("({}) > ", node.name()) }
        };
        let answering = node.answering();
        let questions = Arc::<Mutex<Questions>>::default();
        let reading = Arc::<AtomicBool>::default();
        let above = above(keyboard.above(), reading.clone());
        let watching = workers()?.spawn(watch_for_people(node.events(), questions.clone(), above.clone()));
        let open = || questions.lock().unwrap_or_else(PoisonError::into_inner);
        let leaving = leave_without_terminal(
            node.clone(),
            self.requests.clone(),
            reading.clone(),
            self.leavings.clone(),
        );
        workers()?.spawn(leaving);
        // The line that the user was typing when a question came, after Ctrl-C.
        let mut aside = String::new();
        loop {
            if open().is_empty() {
                keyboard.put_back(std::mem::take(&mut aside));
            }
            reading.store(true, Ordering::SeqCst);
            let read = keyboard.read(&self.requests);
            reading.store(false, Ordering::SeqCst);
            match read? {
                Line::Dropped(line) if !open().is_empty() && aside.is_empty() => aside = line,
                Line::Dropped(_) => {}
                Line::End => break,
                Line::Text(text) => {
                    let answer = open().answer(&text);
                    if let Some(answer) = answer {
                        let late = self.answer(&answer)?;
                        late.then(|| open().forget(answer.id));
                    } else if self.lines(&whole(text, &mut keyboard)) == Flow::Exit {
                        break;
                    }
                    // An open question is shown above the next prompt again.
                    reading.store(true, Ordering::SeqCst);
                    open().open().into_iter().for_each(&*above);
                }
            }
        }
        drop((answering, node, keyboard));
        self.evaluator.screen.line("Goodbye :(");
        let asked = self.requests.status();
        self.leave(watching)?;
        Ok(asked.unwrap_or(0))
    }

    /// Runs the statements of a text that was typed or pasted at once; the first error ends them.
    fn lines(&mut self, text: &str) -> Flow {
        let statements = lines::statements(text);
        for statement in &statements {
            match self.line(statement) {
                Ok(Flow::On) => {}
                Ok(Flow::Exit) => return Flow::Exit,
                Err(error) => {
                    self.evaluator.screen.end_guest(true);
                    self.evaluator.screen.error(&error);
                    break;
                }
            }
        }
        Flow::On
    }

    /// Passes on an answer of the user. Returns whether it came too late.
    fn answer(&mut self, answer: &events::Answer) -> Result<bool> {
        let answered = workers()?.block_on(self.evaluator.node.answer(answer.id, answer.yes));
        // The other node may have disconnected in the meantime.
        Ok(answered.inspect_err(|error| self.evaluator.screen.error(error)).is_err())
    }

    /// Shuts the node down after running calls have ended. Ctrl-C or another request to end stops these calls.
    fn leave(self, watching: JoinHandle<()>) -> Result<()> {
        let Shell { evaluator, requests, .. } = self;
        workers()?.block_on(async {
            let node = &evaluator.node;
            let hurry = async {
                tokio::select! { () = interrupt() => {}, () = requests.again() => {} }
                node.hurry().await;
                std::future::pending().await
            };
            tokio::select! { () = node.shut_down() => {}, () = hurry => {} }
            // The last events are still to be shown.
            drop(evaluator);
            let _ = tokio::time::timeout(LAST_EVENTS, watching).await;
        });
        Ok(())
    }
}

/// Returns the text, with the following lines that were already typed if the statement continues in them.
fn whole(mut text: String, keyboard: &mut Keyboard) -> String {
    let mut open = lines::Open::default();
    let mut goes_on = text.split('\n').fold(false, |_, line| open.feed(line));
    while goes_on && let Some(line) = keyboard.pending() {
        goes_on = open.feed(&line);
        text = text + "\n" + &line;
    }
    text
}

/// Exits if a request to end comes and the line editor does not return: a read of a closed terminal never
/// returns.
async fn leave_without_terminal(
    node: Handle,
    requests: Requests,
    reading: Arc<AtomicBool>,
    leavings: Option<PathBuf>,
) {
    requests.asked().await;
    tokio::time::sleep(UNHEARD).await;
    if !reading.load(Ordering::SeqCst) {
        return;
    }
    node.shut_down().await;
    if let Some(folder) = leavings {
        // The terminal is gone, so an error could not be shown.
        let _ = std::fs::remove_dir_all(folder);
    }
    std::process::exit(requests.status().unwrap_or(1));
}

/// Prints lines above the prompt, or between the output of a call while one runs.
fn above(
    prompt: Arc<dyn Fn(String) + Send + Sync>,
    reading: Arc<AtomicBool>,
) -> Arc<dyn Fn(String) + Send + Sync> {
    Arc::new(move |line| match reading.load(Ordering::SeqCst) {
        true => prompt(line),
        false => render::beside(&line),
    })
}

/// Shows events and questions above the prompt until the node ends.
async fn watch_for_people(
    events: broadcast::Receiver<Event>,
    questions: Arc<Mutex<Questions>>,
    above: Arc<dyn Fn(String) + Send + Sync>,
) {
    watch(events, |event| {
        let shown = questions.lock().unwrap_or_else(PoisonError::into_inner).hear(&event);
        // Reasons come from other nodes: they must not control the terminal.
        let shown = shown.into_iter().map(|line| inert::lines(&line).into_owned());
        match event {
            // The prompt is already closed.
            Event::Leaving { .. } => shown.for_each(|line| render::note(&line)),
            _ => shown.for_each(|line| above(line)),
        }
    })
    .await;
}

/// Writes events as lines: JSON on standard output, or text on standard error.
async fn watch_for_programs(events: broadcast::Receiver<Event>, json: bool) {
    watch(events, |event| match json {
        true => render::json(&event.to_json()),
        false => events::words(&event).into_iter().for_each(|line| render::note(&line)),
    })
    .await;
}

async fn watch(mut events: broadcast::Receiver<Event>, mut show: impl FnMut(Event)) {
    loop {
        match events.recv().await {
            Ok(event) => show(event),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}
