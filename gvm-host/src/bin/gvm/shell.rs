//! The REPL, scripts, `gvm eval` and `gvm serve`: lines from somewhere to one evaluator, events to whoever reads.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gvm_host::error::{Code, Error, Result};
use gvm_host::node::{Event, Handle, workers};
use gvm_host::repl::assist::Names;
use gvm_host::repl::eval::{Evaluator, Flow};
use gvm_host::repl::events::{self, Questions};
use gvm_host::repl::parse;
use gvm_host::repl::render::{self, Screen};
use gvm_host::repl::sanitize::Sanitizer;
use gvm_host::repl::terminal::{Line, Terminal};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::options::Options;
use super::signals::{Requests, interrupt};
use super::{cancelled, status};

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
    Shell::new(options, node, Requests::catch()?)?.batch(|_| Ok(exprs.next()))
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
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let screen = Screen::new(no_colour);
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

    /// Lines that nobody types: the first error ends them.
    fn batch(mut self, mut next: impl FnMut(&Requests) -> Result<Option<String>>) -> Result<i32> {
        let events = self.evaluator.node.events();
        let watching = workers()?.spawn(watch_for_programs(events, self.evaluator.json));
        let mut ended = 0;
        while let Some(line) = next(&self.requests)? {
            match self.line(&line) {
                Ok(Flow::On) => {}
                Ok(Flow::Exit) => break,
                Err(error) => {
                    self.evaluator.screen.end_guest(true);
                    if !(self.evaluator.json && error.code() == Code::GuestExit) {
                        self.evaluator.screen.error(&error);
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
            true => render::line(&events::started(node.info()).to_string()),
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
        let (line, mut lines) = mpsc::channel(1);
        // A read of standard input cannot be taken back: it has a thread of its own, which ends with the
        // process.
        std::thread::Builder::new()
            .name("gvm-script".into())
            .spawn(move || {
                let lines = std::io::stdin().lock().lines().map_while(|line| line.ok());
                lines.map(|read| line.blocking_send(read)).take_while(|sent| sent.is_ok()).for_each(drop);
            })
            .map_err(|error| Error::io("starting the script's thread", error))?;
        self.batch(move |requests| {
            Ok(workers()?.block_on(async {
                tokio::select! {
                    biased;
                    () = requests.asked() => None,
                    line = lines.recv() => line,
                }
            }))
        })
    }

    /// Lines that a person types.
    pub fn interact(mut self, history: PathBuf) -> Result<i32> {
        let colour = self.evaluator.screen.stdout_terminal && self.evaluator.screen.colour;
        let (node, flag) = (self.evaluator.node.clone(), self.requests.flag.clone());
        let names = Names::of(node.clone(), workers()?.handle().clone());
        let mut terminal = Terminal::open(node.name().as_str(), &history, names, colour, flag)?;
        let answering = node.answering();
        let questions = Arc::<Mutex<Questions>>::default();
        let above = terminal.above();
        let watching = workers()?.spawn(watch_for_people(node.events(), questions.clone(), above.clone()));
        let open = || questions.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = Arc::<AtomicBool>::default();
        let leaving = leave_without_terminal(
            node.clone(),
            self.requests.clone(),
            reading.clone(),
            self.leavings.clone(),
        );
        workers()?.spawn(leaving);
        loop {
            reading.store(true, Ordering::SeqCst);
            let read = terminal.read();
            reading.store(false, Ordering::SeqCst);
            match read? {
                Line::Dropped => {}
                Line::End => break,
                Line::Text(line) => {
                    let answer = open().answer(&line);
                    if let Some(answer) = answer {
                        self.answer(answer)?;
                    } else if self.person(&line) == Flow::Exit {
                        break;
                    }
                    // The question stands above the next prompt too.
                    open().open().into_iter().for_each(&*above);
                }
            }
        }
        drop((answering, node, terminal));
        self.evaluator.screen.line("Goodbye :(");
        let asked = self.requests.status();
        self.leave(watching)?;
        Ok(asked.unwrap_or(0))
    }

    /// Carries out what a person typed, and shows what went wrong.
    fn person(&mut self, line: &str) -> Flow {
        self.line(line).unwrap_or_else(|error| {
            self.evaluator.screen.end_guest(true);
            self.evaluator.screen.error(&error);
            Flow::On
        })
    }

    fn answer(&mut self, answer: events::Answer) -> Result<()> {
        let answered = workers()?.block_on(self.evaluator.node.answer(answer.id, answer.yes));
        // Whoever asked may have gone at this very moment.
        answered.unwrap_or_else(|error| self.evaluator.screen.error(&error));
        Ok(())
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

/// Shows events above the prompt, and what is asked, until the node ends.
async fn watch_for_people(
    events: broadcast::Receiver<Event>,
    questions: Arc<Mutex<Questions>>,
    above: Arc<dyn Fn(String) + Send + Sync>,
) {
    watch(events, |event| {
        let shown = questions.lock().unwrap_or_else(PoisonError::into_inner).hear(&event);
        // A reason is what a peer said.
        let shown = shown.into_iter().map(|line| Sanitizer::default().feed(line.as_bytes()));
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
        true => render::line(&events::to_json(&event).to_string()),
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
