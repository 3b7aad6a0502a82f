//! `gpmd`, the port mapper daemon and its commands.
//!
//! In: arguments, environment variables, signals. Out: text or JSON, and an exit status: 0, 1 for an error, 2
//! for wrong usage, 141 if the reader of a pipe closed it. Must not know: how the commands work; the library
//! does.

#[path = "gpmd/args.rs"]
mod args;
#[path = "common/descriptors.rs"]
mod descriptors;
#[path = "gpmd/log.rs"]
mod log;
#[path = "common/manual.rs"]
mod manual;
#[path = "common/memory.rs"]
mod memory;
#[path = "gpmd/network.rs"]
mod network;
#[path = "gpmd/output.rs"]
mod output;
#[path = "gpmd/relay.rs"]
mod relay;
#[path = "gpmd/start.rs"]
mod start;
#[path = "gpmd/wasm.rs"]
mod wasm;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use gvm_cli::repl::stdio;
use gvm_host::gpmd::record::is_running;
use gvm_host::system::process;
use gvm_host::{Code, Error, Home, Result, compiler};

use args::{Args, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if words.nth(1).is_some_and(|word| word == compiler::WORD) {
        let status = compiler::child_main(&words.collect::<Vec<_>>());
        return ExitCode::from(u8::try_from(status).unwrap_or(1));
    }
    descriptors::tell();
    let args = Args::try_parse().unwrap_or_else(|error| manual::exit(&error));
    let json = args.json;
    let ran = run(args);
    if let Err(error) = &ran {
        report(error, json);
    }
    let status = match &ran {
        Ok(()) => 0,
        Err(error) if matches!(error.code(), Code::OutputLost | Code::Syntax) => error.exit().unwrap_or(1),
        Err(_) => 1,
    };
    let (status, lost) = stdio::settle(status);
    lost.iter().for_each(output::error);
    ExitCode::from(u8::try_from(status).unwrap_or(1))
}

fn run(mut args: Args) -> Result<()> {
    match &args.command {
        Command::Completions { shell } => return manual::completions(*shell, Args::command()),
        Command::Man { folder } => return manual::manual(folder.as_deref(), Args::command()),
        // The other commands must reach a running daemon even if its settings are broken.
        Command::Start { .. } => args.settle()?,
        // These start a daemon if there is none. One that runs must be reached even if its settings are broken.
        Command::Invite { .. } | Command::Join { .. } if !is_running(&Home::open(args.home()?)?) => {
            args.settle()?;
        }
        _ => {}
    }
    args.check_on()?;
    process::enough_descriptors()?;
    let home = Home::open(args.home()?)?;
    if !matches!(args.command, Command::Start { .. }) {
        output::log_to_stderr(args.verbose, false);
    }
    match &args.command {
        Command::Start { foreground, no, .. } if *foreground || *no => start::foreground(&args, home),
        Command::Start { detached: true, .. } => start::detached(&args, home),
        Command::Start { .. } => start::background(&args, &home),
        Command::Relay { host } => relay::run(&args, &home, host.as_deref()),
        Command::Kill => args.control(&home)?.shut_down("gpmd was stopped"),
        Command::Status => {
            let status = args.control(&home)?.status()?;
            output::print(&if args.json { output::json(&status)? } else { output::status(&status) });
            Ok(())
        }
        Command::Wasm { command } => wasm::run(command, &args, &home),
        Command::Invite { .. }
        | Command::Invitations { .. }
        | Command::Join { .. }
        | Command::Devices
        | Command::Remove { .. }
        | Command::Leave => network::run(&args, &home),
        Command::Completions { .. } | Command::Man { .. } => Ok(()),
    }
}

/// Prints an error on standard error, and with `--json` on standard output too.
fn report(error: &Error, json: bool) {
    if json && !stdio::is_cut(error) {
        let value = serde_json::json!({ "error": error.to_json() });
        output::print(&format!("{value}\n"));
    }
    output::error(error);
}
