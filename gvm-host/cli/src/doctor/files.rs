//! Checks the permissions of paths.
//!
//! In: a path of the home, and how it is used. Out: the first path on the way to it that prevents this use,
//! with the command that fixes it. Must not know: the content of the files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::Problem;
use gvm_host::text::quote;

/// How a path is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A folder in which files are created.
    Folder,
    /// A file that is read.
    Read,
    /// A file that is read and written.
    Write,
}

/// Returns why a path cannot be used. `None` if it can, or if it does not exist.
pub fn refused(path: &Path, how: Use) -> Option<Problem> {
    let above: Vec<&Path> = path.ancestors().skip(1).collect();
    for folder in above.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
        match fs::metadata(folder) {
            Ok(meta) if !meta.is_dir() => return Some(not_folder(folder)),
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
        (false, Use::Folder) => Some(not_folder(path)),
        (false, _) => Some(Problem::new(format!("{} is not a file", path.display()), aside(path))),
    }
}

/// Returns the command that renames a path, so that another file or folder can take its place.
pub fn aside(path: &Path) -> String {
    format!("mv {} {}", quote::path(path), quote::word(&format!("{}.old", path.display())))
}

fn not_folder(path: &Path) -> Problem {
    Problem::new(
        format!("{} is not a folder", path.display()),
        format!("{}, or choose another home with --home or GHOST_HOME", aside(path)),
    )
}

fn forbidden(path: &Path, what: &str, how: Use, error: Errno) -> Problem {
    if error == Errno::ROFS {
        return disk(path, error.into());
    }
    let meta = fs::metadata(path).ok();
    let mode = meta.as_ref().map_or(0, |meta| meta.mode() & 0o777);
    let words = format!("{} cannot {what}", path.display());
    match meta {
        Some(meta) if meta.uid() != rustix::process::geteuid().as_raw() => Problem::new(
            format!("{words}: it belongs to another user ({})", meta.uid()),
            format!(
                "take ownership (as root: chown -R {} {}), or choose another home with --home or GHOST_HOME",
                rustix::process::geteuid().as_raw(),
                quote::path(path)
            ),
        ),
        Some(_) => {
            let wanted = if how == Use::Folder { "700" } else { "600" };
            Problem::new(
                format!("{words} (mode {mode:03o})"),
                format!("chmod {wanted} {}", quote::path(path)),
            )
        }
        None => Problem::new(format!("{words}: {error}"), "check its owner and permissions"),
    }
}

/// Returns the problem of a path that cannot be written because of its disk.
pub fn disk(path: &Path, error: io::Error) -> Problem {
    let words = format!("{} cannot be written: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Problem::new(
            words,
            "free some space on its disk; you can remove `compiled` in the home, GVM creates it again",
        ),
        io::ErrorKind::ReadOnlyFilesystem => Problem::new(
            words,
            "mount its disk for writing, or choose another home with --home or GHOST_HOME",
        ),
        _ => Problem::new(words, "check its owner, its permissions and its disk"),
    }
}
