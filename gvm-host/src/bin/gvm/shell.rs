//! The REPL, scripts and `gvm eval`: lines from somewhere to one evaluator.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use gvm_host::error::{Code, Result};
use gvm_host::node::{Handle, workers};
use gvm_host::repl::eval::{Evaluator, Flow};
use gvm_host::repl::parse;
use gvm_host::repl::render::Screen;
use gvm_host::repl::terminal::{Line, Terminal, event_words};

use super::options::Options;
use super::{cancelled, status};

/// A node, then what is typed; a script where standard input is no terminal.
pub fn repl(options: &Options) -> Result<i32> {
    let home = options.home()?;
    let history = home.history();
    let terminal = std::io::stdin().is_terminal();
    let node = workers()?.block_on(Handle::start(options.node_config(home, true)?))?;
    let mut shell = Shell::new(options, node)?;
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
    Shell::new(options, node)?.batch(exprs.into_iter())
}

/// The line that greets a person.
pub fn banner(node: &Handle) -> String {
    format!("GVM has been created {} ({})", node.name(), node.info().id)
}

/// An evaluator, and how its lines are run.
pub struct Shell {
    pub evaluator: Evaluator,
}

impl Shell {
    pub fn new(options: &Options, node: Handle) -> Result<Shell> {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let screen = Screen::new(no_colour);
        Ok(Shell { evaluator: Evaluator { node, screen, limits: options.limits()?, json: options.json } })
    }

    /// Carries out one line; Ctrl-C stops what runs, and nothing else.
    fn line(&mut self, line: &str) -> Result<Flow> {
        let statement = parse::statement(line)?;
        workers()?.block_on(async {
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => Err(cancelled()),
                flow = self.evaluator.execute(statement) => flow,
            }
        })
    }

    /// Lines that nobody types: the first error ends them.
    fn batch(mut self, lines: impl Iterator<Item = String>) -> Result<i32> {
        let mut ended = 0;
        for line in lines {
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
        self.leave()?;
        Ok(ended)
    }

    /// The lines of standard input.
    pub fn script(self) -> Result<i32> {
        self.batch(std::io::stdin().lock().lines().map_while(|line| line.ok()))
    }

    /// Lines that a person types.
    pub fn interact(mut self, history: PathBuf) -> Result<i32> {
        let colour = self.evaluator.screen.stdout_terminal && self.evaluator.screen.colour;
        let mut terminal = Terminal::open(self.evaluator.node.name().as_str(), &history, colour)?;
        self.watch_events(&terminal)?;
        loop {
            match terminal.read()? {
                Line::Dropped => {}
                Line::End => break,
                Line::Text(line) => match self.line(&line) {
                    Ok(Flow::On) => {}
                    Ok(Flow::Exit) => break,
                    Err(error) => {
                        self.evaluator.screen.end_guest(true);
                        self.evaluator.screen.error(&error);
                    }
                },
            }
        }
        self.evaluator.screen.line("Goodbye :(");
        self.leave()?;
        Ok(0)
    }

    /// Shows events above the prompt until the node ends.
    fn watch_events(&self, terminal: &Terminal) -> Result<()> {
        let mut events = self.evaluator.node.events();
        let above = terminal.above();
        workers()?.spawn(async move {
            use tokio::sync::broadcast::error::RecvError;
            loop {
                match events.recv().await {
                    Ok(event) => above(event_words(&event)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Ok(())
    }

    fn leave(self) -> Result<()> {
        workers()?.block_on(self.evaluator.node.shut_down());
        Ok(())
    }
}
