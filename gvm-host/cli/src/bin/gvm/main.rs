//! `gvm`: a node with a prompt, calls from a shell, and tools.
//!
//! In: arguments, environment variables. Out: a call of the command's module; an error as text and an exit
//! status. Must not know: how the commands work.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is where the product prints")]

mod demo;
#[path = "../common/descriptors.rs"]
mod descriptors;
mod doctor;
mod http;
mod inspect;
mod keyboard;
#[path = "../common/manual.rs"]
mod manual;
#[path = "../common/memory.rs"]
mod memory;
mod new;
mod options;
mod run;
mod settle;
mod shell;
mod signals;

use clap::{CommandFactory, Parser};
use gvm_cli::repl::render::Screen;
use gvm_cli::repl::stdio;
use gvm_host::system::process;
use gvm_host::{Code, Error, Result, compiler};

use self::options::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit status after Ctrl-C.
const INTERRUPTED: i32 = 130;

fn main() {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|word| word == compiler::WORD) {
        std::process::exit(compiler::child_main(&args.collect::<Vec<_>>()));
    }
    descriptors::tell();
    let cli = Cli::try_parse().unwrap_or_else(|error| manual::exit(&error));
    log(cli.options.verbose);
    let mut screen = Screen::new(no_colour());
    let status = match dispatch(cli, &mut screen) {
        Ok(status) => status,
        Err(error) => {
            screen.error(&error);
            status(&error)
        }
    };
    let (status, lost) = stdio::settle(status);
    lost.iter().for_each(|error| screen.error(error));
    // Threads may still be blocked in system calls, such as a read of the terminal or a write to a full pipe.
    // The process does not wait for them: its own output has no buffers that need to be flushed.
    std::process::exit(status);
}

fn dispatch(cli: Cli, screen: &mut Screen) -> Result<i32> {
    let Cli { mut options, command } = cli;
    match command {
        // It may end within milliseconds, so it decides itself.
        Some(Command::Run { .. }) => {}
        // Large values cross faster with huge pages.
        _ => descriptors::huge_pages(),
    }
    match command {
        // The doctor checks descriptors itself; the others need few.
        Some(Command::Doctor { .. } | Command::Completions { .. } | Command::Man { .. }) => {}
        _ => process::enough_descriptors()?,
    }
    match command {
        None | Some(Command::Serve { .. }) => options.settle(true)?,
        Some(Command::Run { .. } | Command::Eval { .. }) => options.settle(false)?,
        Some(_) => {}
    }
    match command {
        None => shell::repl(&options),
        Some(Command::Run { invoke, target_and_args }) => run::run(&options, screen, invoke, target_and_args),
        Some(Command::Eval { exprs }) => shell::eval(&options, exprs),
        Some(Command::Serve { http: Some(address), reuse, target }) => {
            let served = http::Served { address, target: target.unwrap_or_default(), reuse };
            http::serve(&options, screen, &served)
        }
        Some(Command::Serve { .. }) => shell::serve(&options),
        Some(Command::Inspect { target }) => inspect::inspect(&options, screen, &target),
        Some(Command::New { path, lang }) => new::new(screen, &path, lang),
        Some(Command::Demo) => demo::demo(&options),
        Some(Command::Doctor { node }) => doctor::doctor(&options, screen, node.as_deref()),
        Some(Command::Completions { shell }) => manual::completions(shell, Cli::command()).map(|()| 0),
        Some(Command::Man { folder }) => manual::manual(folder.as_deref(), Cli::command()).map(|()| 0),
    }
}

/// Returns whether the environment asks for no colours.
fn no_colour() -> bool {
    keyboard::is_dumb() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Returns the exit status for an error.
fn status(error: &Error) -> i32 {
    match (error.code(), error.exit()) {
        (Code::Cancelled, _) => INTERRUPTED,
        (Code::Syntax, Some(2)) => 2,
        (Code::OutputLost, Some(status)) => status,
        _ => 1,
    }
}

/// Returns the exit status of `gvm run` for an error: the guest's own, if the guest exited with a failure.
/// The system keeps only the low byte of a status, so 256 counts as 0.
fn status_of_run(error: &Error) -> i32 {
    match (error.code(), error.exit()) {
        (Code::GuestExit, Some(guests)) if guests & 0xff != 0 => guests & 0xff,
        _ => status(error),
    }
}

/// Returns the error of a call that the user stopped.
fn cancelled() -> Error {
    Error::new(Code::Cancelled, "the call was stopped").with_effect(gvm_host::Effect::RanAndFailed)
}

/// Logs to standard error: only errors, unless `-v` asks for more.
fn log(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::filter::LevelFilter;
    let level = match verbose {
        // The usual case: there is no filter to parse and to ask.
        0 if std::env::var_os(EnvFilter::DEFAULT_ENV).is_none() => {
            tracing_subscriber::fmt().with_max_level(LevelFilter::ERROR).with_writer(std::io::stderr).init();
            return;
        }
        0 => "error",
        1 => "gvm_host=info,warn",
        _ => "gvm_host=debug,info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
