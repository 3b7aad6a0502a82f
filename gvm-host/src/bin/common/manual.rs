//! What a program says of itself to shells and to `man`.
//!
//! In: its command line. Out: completion scripts, manual pages. Must not know: what the commands do.

use std::io::Write;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use gvm_host::error::{Error, Result};

/// A shell's completion script, on standard output.
///
/// # Errors
/// `INTERNAL` where it cannot be written.
pub fn completions(shell: Shell, mut command: Command) -> Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    print(&script)
}

/// The manual: every page into a folder, or the first one on standard output.
///
/// # Errors
/// `STORAGE_FULL`, `INTERNAL` where it cannot be written.
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
    let mut out = std::io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        // A reader that has enough is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("cannot write to standard output", error))
        }
        _ => Ok(()),
    }
}
