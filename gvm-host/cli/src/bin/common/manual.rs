//! What a program says of itself to shells and to `man`.
//!
//! In: its command line. Out: help, completion scripts, manual pages. Must not know: what the commands do.

use std::io::Write;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use gvm_cli::repl::stdio;
use gvm_host::Stream;
use gvm_host::{Error, Result};

/// A shell's completion script, on standard output.
///
/// # Errors
/// `STORAGE_FULL`, `OUTPUT_LOST` where it cannot be written.
pub fn completions(shell: Shell, mut command: Command) -> Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(&script)
}

/// The manual: every page into a folder, or the first one on standard output.
///
/// # Errors
/// `STORAGE_FULL`, `OUTPUT_LOST`, `INTERNAL` where it cannot be written.
pub fn manual(folder: Option<&Path>, command: Command) -> Result<()> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        return rendered.map_err(|error| Error::io("the manual", error)).and_then(|()| print(&page));
    };
    let fail = |error| Error::io(format_args!("cannot write in {}", folder.display()), error);
    std::fs::create_dir_all(folder).map_err(fail)?;
    clap_mangen::generate_to(command, folder).map_err(fail)
}

fn print(text: &[u8]) -> Result<()> {
    stdio::write(Stream::Stdout, text).map_err(|error| stdio::error("standard output", error))
}

/// Shows help, the version or what is wrong with a command line, and leaves: with 0, 2, or as
/// [`stdio::settle`] says where it cannot be shown.
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
