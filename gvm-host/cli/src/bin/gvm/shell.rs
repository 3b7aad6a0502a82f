//! The REPL, scripts, `gvm eval` and `gvm serve`: lines from somewhere to one evaluator, events to whoever reads.

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
use gvm_host::parse;
use gvm_host::text::inert;
use gvm_host::{Code, Result};
use gvm_host::{Event, Handle, workers};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::keyboard::{Keyboard, Lines};
use super::options::Options;
use super::signals::{Requests, interrupt};
use super::{cancelled, no_colour, status};

/// How long the last events may take to be shown once the node has ended: they are on their way already.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// How soon a line that is being typed gives way to a request to end.
const UNHEARD: Duration = Duration::from_secs(1);

/// A node, then what is typed; a script where standard input is no terminal.
pub fn repl(options: &Options) -> Result<i32> {
    let home = options.home()?;
    let history = home.history();
    let terminal = std::io::stdin().is_terminal();
    let node = workers()?.block_on(Handle::start(options.node_config(home, true)?))?;
    let mut shell = Shell::new(options, node, Requests::catch()?)?;
    if terminal {
        shell.evaluator.screen.line(&banner(&shell.evaluator.node));
        shell.interact(history)
    } else {
        shell.script()
    }
}

/// The given statements.
pub fn eval(options: &Options, exprs: Vec<String>) -> Result<i32> {
    // What cannot be read is said before a node is started for it.
    exprs.iter().try_for_each(|expr| parse::statement(expr).map(drop))?;
    let node = workers()?.block_on(Handle::start(options.node_config(options.home()?, false)?))?;
    let mut exprs = exprs.into_iter();
    Shell::new(options, node, Requests::catch()?)?.batch(false, |_| Ok(exprs.next().map(|expr| (0, expr))))
}

/// A node that nobody types at, until it is told to end.
pub fn serve(options: &Options) -> Result<i32> {
    let node = workers()?.block_on(Handle::start(options.node_config(options.home()?, true)?))?;
    Shell::new(options, node, Requests::catch()?)?.serve()
}

/// The line that greets a person.
pub fn banner(node: &Handle) -> String {
    format!("GVM has been created {} ({})", node.name(), node.info().id)
}

/// An evaluator, and how its lines are run.
pub struct Shell {
    pub evaluator: Evaluator,
    /// A folder that goes with the shell, should it have to leave in the middle of a line.
    pub leavings: Option<PathBuf>,
    requests: Requests,
}

impl Shell {
    /// A shell of this node, which leaves in order when it is requested.
    pub fn new(options: &Options, node: Handle, requests: Requests) -> Result<Shell> {
        let screen = Screen::new(no_colour());
        let evaluator =
            Evaluator { node, screen, limits: options.limits()?, json: options.json, line: String::new() };
        Ok(Shell { evaluator, leavings: None, requests })
    }

    /// Carries out one line; Ctrl-C stops what runs, and nothing else.
    fn line(&mut self, line: &str) -> Result<Flow> {
        let statement = parse::statement(line)?;
        line.clone_into(&mut self.evaluator.line);
        workers()?.block_on(async {
            tokio::select! {
                biased;
                () = interrupt() => Err(cancelled()),
                () = self.requests.asked() => Err(cancelled()),
                flow = self.evaluator.execute(statement) => flow,
            }
        })
    }

    /// Statements that nobody types, each with the line that it begins in: the first error ends them. Of a script
    /// it is said in which line it is.
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
            // A result that did not arrive ends it as an error does.
            match done.and_then(|flow| stdio::lost().map_or(Ok(flow), Err)) {
                Ok(Flow::On) => {}
                Ok(Flow::Exit) => break,
                Err(error) => {
                    self.evaluator.screen.end_guest(true);
                    if !(self.evaluator.json && error.code() == Code::GuestExit) {
                        self.evaluator.screen.error(&error);
                        if script && !stdio::is_cut(&error) {
                            self.evaluator.screen.note(&format!("  in line {number} of the script"));
                        }
                    }
                    ended = status(&error);
                    break;
                }
            }
        }
        let asked = self.requests.status();
        self.leave(watching)?;
        Ok(asked.unwrap_or(ended))
    }

    /// No lines at all. However it is told to end, that is its usual end.
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

    /// The lines of standard input.
    pub fn script(self) -> Result<i32> {
        let mut lines = Lines::of_stdin()?;
        self.batch(true, move |requests| workers()?.block_on(lines.statement(requests)))
    }

    /// Lines that a person types.
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
        // What was being typed when a question came, once Ctrl-C has put it aside.
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
                    // The question stands above the next prompt too.
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

    /// Carries out what a person typed at once; what goes wrong ends it.
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

    /// Hands on what a person answered; whether that came too late.
    fn answer(&mut self, answer: &events::Answer) -> Result<bool> {
        let answered = workers()?.block_on(self.evaluator.node.answer(answer.id, answer.yes));
        // Whoever asked may have gone at this very moment.
        Ok(answered.inspect_err(|error| self.evaluator.screen.error(error)).is_err())
    }

    /// Ends the node in order; Ctrl-C, or another request to end, does not wait for what runs.
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
            // What happened last is still to be shown.
            drop(evaluator);
            let _ = tokio::time::timeout(LAST_EVENTS, watching).await;
        });
        Ok(())
    }
}

/// What was typed, with the lines behind it where it goes on in them and they have been typed already.
fn whole(mut text: String, keyboard: &mut Keyboard) -> String {
    let mut open = lines::Open::default();
    let mut goes_on = text.split('\n').fold(false, |_, line| open.feed(line));
    while goes_on && let Some(line) = keyboard.pending() {
        goes_on = open.feed(&line);
        text = text + "\n" + &line;
    }
    text
}

/// Leaves in order where the terminal has gone: a read of it never returns then, whatever is asked.
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
        // Nobody is left who could be told.
        let _ = std::fs::remove_dir_all(folder);
    }
    std::process::exit(requests.status().unwrap_or(1));
}

/// Puts lines above the prompt; while a call runs there is none, and they stand among what it writes.
fn above(
    prompt: Arc<dyn Fn(String) + Send + Sync>,
    reading: Arc<AtomicBool>,
) -> Arc<dyn Fn(String) + Send + Sync> {
    Arc::new(move |line| match reading.load(Ordering::SeqCst) {
        true => prompt(line),
        false => render::beside(&line),
    })
}

/// Shows events above the prompt, and what is asked, until the node ends.
async fn watch_for_people(
    events: broadcast::Receiver<Event>,
    questions: Arc<Mutex<Questions>>,
    above: Arc<dyn Fn(String) + Send + Sync>,
) {
    watch(events, |event| {
        let shown = questions.lock().unwrap_or_else(PoisonError::into_inner).hear(&event);
        // A reason is what a peer said.
        let shown = shown.into_iter().map(|line| inert::lines(&line).into_owned());
        match event {
            // There is no prompt any more.
            Event::Leaving { .. } => shown.for_each(|line| render::note(&line)),
            _ => shown.for_each(|line| above(line)),
        }
    })
    .await;
}

/// Writes events as lines: of JSON among the results, or for people beside them.
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
