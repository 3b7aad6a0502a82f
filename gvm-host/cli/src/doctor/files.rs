//! Whether a path can be used as it must be, and what keeps it from that.
//!
//! In: a path of the home, and what is done with it. Out: the first folder above it, or the path itself, that
//! stands in the way, with the command that fixes it. Must not know: what the files hold.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::Sick;
use gvm_host::text::quote;

/// What is done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A folder that files are made in.
    Folder,
    /// A file that is read.
    Read,
    /// A file that is read and written.
    Write,
}

/// What keeps a path from being used so; none where nothing does, or it is not there.
pub fn refused(path: &Path, how: Use) -> Option<Sick> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    for folder in above.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        match fs::metadata(folder) {
            Ok(meta) if !meta.is_dir() => return Some(no_folder(folder)),
            Ok(_) => {}
            Err(_) => return None,
        }
        if let Err(error) = access(folder, Access::EXEC_OK) {
            return Some(forbidden(folder, "be entered", Use::Folder, error));
        }
    }
    let Ok(meta) = fs::metadata(path) else { return None };
    let (fits, wanted, words) = match how {
        Use::Folder => {
            (meta.is_dir(), Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK, "be read and written")
        }
        Use::Read => (meta.is_file(), Access::READ_OK, "be read"),
        Use::Write => (meta.is_file(), Access::READ_OK | Access::WRITE_OK, "be read and written"),
    };
    match (fits, how) {
        (true, _) => access(path, wanted).err().map(|error| forbidden(path, words, how, error)),
        (false, Use::Folder) => Some(no_folder(path)),
        (false, _) => Some(Sick::new(format!("{} is no file", path.display()), aside(path))),
    }
}

/// The command that puts something aside, so that another can stand in its place.
pub fn aside(path: &Path) -> String {
    format!("mv {} {}", quote::path(path), quote::word(&format!("{}.old", path.display())))
}

fn no_folder(path: &Path) -> Sick {
    Sick::new(
        format!("{} is no folder", path.display()),
        format!("{} makes room for one; or choose another home with --home or GHOST_HOME", aside(path)),
    )
}

fn forbidden(path: &Path, what: &str, how: Use, error: Errno) -> Sick {
    if error == Errno::ROFS {
        return disk(path, error.into());
    }
    let meta = fs::metadata(path).ok();
    let mode = meta.as_ref().map_or(0, |meta| meta.mode() & 0o777);
    let words = format!("{} cannot {what}", path.display());
    match meta {
        Some(meta) if meta.uid() != rustix::process::geteuid().as_raw() => Sick::new(
            format!("{words}: it belongs to another user ({})", meta.uid()),
            format!(
                "give it to yourself (as root: chown -R {} {}), or choose another home with --home or GHOST_HOME",
                rustix::process::geteuid().as_raw(),
                quote::path(path)
            ),
        ),
        Some(_) => {
            let wanted = if how == Use::Folder { "700" } else { "600" };
            Sick::new(format!("{words} (mode {mode:03o})"), format!("chmod {wanted} {}", quote::path(path)))
        }
        None => Sick::new(format!("{words}: {error}"), "look at who owns it"),
    }
}

/// A disk that does not take what is written.
pub fn disk(path: &Path, error: io::Error) -> Sick {
    let words = format!("{} cannot be written: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Sick::new(
            words,
            "free some space on its disk; `compiled` in the home may be removed, it is made again",
        ),
        io::ErrorKind::ReadOnlyFilesystem => {
            Sick::new(words, "mount its disk for writing, or choose another home with --home or GHOST_HOME")
        }
        _ => Sick::new(words, "look at who owns it, and at its disk"),
    }
}
