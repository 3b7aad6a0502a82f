//! Help, completion scripts and manual pages of a program.
//!
//! In: its command line as clap defines it. Out: text. Must not know: what the commands do.

use std::io::Write;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use gvm_cli::repl::stdio;
use gvm_host::{Error, Result, Stream};

/// Writes the completion script for a shell to standard output.
///
/// # Errors
/// `STORAGE_FULL` or `OUTPUT_LOST` if it cannot be written.
pub fn completions(shell: Shell, mut command: Command) -> Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(&script)
}

/// Writes all manual pages to a folder, or the main page to standard output.
///
/// # Errors
/// `STORAGE_FULL`, `OUTPUT_LOST` or `INTERNAL` if they cannot be written.
pub fn manual(folder: Option<&Path>, command: Command) -> Result<()> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        return rendered
            .map_err(|error| Error::io("cannot write the manual", error))
            .and_then(|()| print(&page));
    };
    let fail = |error| Error::io(format_args!("cannot write in {}", folder.display()), error);
    std::fs::create_dir_all(folder).map_err(fail)?;
    clap_mangen::generate_to(command, folder).map_err(fail)
}

fn print(text: &[u8]) -> Result<()> {
    stdio::write(Stream::Stdout, text).map_err(|error| stdio::error("standard output", error))
}

/// Prints help, the version or an error of usage, and exits: with 0, 2, or the status of [`stdio::settle`] if
/// it cannot be printed.
pub fn exit(error: &clap::Error) -> ! {
    if error.use_stderr() {
        let _ = error.print();
    } else {
        stdio::check(error.print().and_then(|()| std::io::stdout().flush()));
    }
    let (status, lost) = stdio::settle(error.exit_code());
    if let Some(lost) = lost {
        let _ = stdio::write(Stream::Stderr, format!("{lost}\n").as_bytes());
    }
    std::process::exit(status)
}
