//! `gvm`: the node, its REPL, and calls from a shell.
//!
//! Thin: reads the command line, starts what the library has, and turns its errors into words and a
//! status.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where the product prints")]

mod demo;
mod doctor;
mod inspect;
mod keyboard;
#[path = "../common/manual.rs"]
mod manual;
mod new;
mod options;
mod run;
mod settle;
mod shell;
mod signals;

use clap::{CommandFactory, Parser};
use gvm_host::engine::compiler;
use gvm_host::error::{Code, Error, Result};
use gvm_host::process;
use gvm_host::repl::render::Screen;

use self::options::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The status of a call that a person stopped.
const INTERRUPTED: i32 = 130;

fn main() {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|word| word == compiler::WORD) {
        std::process::exit(compiler::child_main(&args.collect::<Vec<_>>()));
    }
    let cli = Cli::parse();
    log(cli.options.verbose);
    let mut screen = Screen::new(no_colour());
    let status = match dispatch(cli, &mut screen) {
        Ok(status) => status,
        Err(error) => {
            screen.error(&error);
            status(&error)
        }
    };
    // Threads may still wait in the system's calls (a read of the terminal, a write to a pipe that is
    // full): the process does not. What it wrote has been flushed line by line.
    std::process::exit(status);
}

fn dispatch(cli: Cli, screen: &mut Screen) -> Result<i32> {
    let Cli { mut options, command } = cli;
    match command {
        // The doctor says it in its own way.
        Some(Command::Doctor { .. } | Command::Completions { .. } | Command::Man { .. }) => {}
        _ => process::enough_descriptors()?,
    }
    match command {
        None | Some(Command::Serve) => options.settle(true)?,
        Some(Command::Run { .. } | Command::Eval { .. }) => options.settle(false)?,
        Some(_) => {}
    }
    match command {
        None => shell::repl(&options),
        Some(Command::Run { invoke, target_and_args }) => run::run(&options, screen, invoke, target_and_args),
        Some(Command::Eval { exprs }) => shell::eval(&options, exprs),
        Some(Command::Serve) => shell::serve(&options),
        Some(Command::Inspect { target }) => inspect::inspect(&options, screen, &target),
        Some(Command::New { path, lang }) => new::new(screen, &path, lang),
        Some(Command::Demo) => demo::demo(&options),
        Some(Command::Doctor { node }) => doctor::doctor(&options, screen, node.as_deref()),
        Some(Command::Completions { shell }) => manual::completions(shell, Cli::command()).map(|()| 0),
        Some(Command::Man { folder }) => manual::manual(folder.as_deref(), Cli::command()).map(|()| 0),
    }
}

/// Whether the environment wants no colours.
fn no_colour() -> bool {
    keyboard::is_dumb() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// The status that a coded error leaves with.
fn status(error: &Error) -> i32 {
    match (error.code(), error.exit()) {
        (Code::Cancelled, _) => INTERRUPTED,
        (Code::GuestExit, Some(status)) => status,
        (Code::Syntax, Some(2)) => 2,
        _ => 1,
    }
}

/// What a person is told of a call that they stopped.
fn cancelled() -> Error {
    Error::new(Code::Cancelled, "the call was stopped").with_effect(gvm_host::error::Effect::RanAndFailed)
}

/// Logs to standard error: warnings, unless more was asked for.
fn log(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = match verbose {
        0 => "error",
        1 => "gvm_host=info,warn",
        _ => "gvm_host=debug,info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
