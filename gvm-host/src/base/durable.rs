//! Writes files atomically and durably: after a crash or a power failure, a file is complete or absent. Reads them up to a size.
//!
//! In: a path and its bytes. Out: a file that has either its old content or its new content; its text.
//! Must not know: what the bytes mean.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use tempfile::{NamedTempFile, TempPath};

use crate::base::error::{Error, Result};
use crate::base::limits;

/// The prefix of unfinished files. The owner of a folder removes them when it starts.
pub const UNFINISHED: &str = ".unfinished-";

/// The largest file of a home that is read as one text: the index of some 100,000 modules. A damaged file can have any size.
const TEXT: u64 = 64 << 20;

/// Reads a file of a home as text.
///
/// # Errors
/// `InvalidData` if it is too large, or no text; those of the system.
pub fn read_text(path: &Path) -> io::Result<String> {
    read(path, TEXT).and_then(|bytes| {
        String::from_utf8(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
    })
}

/// Reads a file of at most so many bytes.
///
/// # Errors
/// `InvalidData` if it has more; those of the system.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let large = || {
        let most = limits::bytes(most);
        io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {most}, which no such file has"))
    };
    let length = file.metadata()?.len();
    if length > most {
        return Err(large());
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(large()) } else { Ok(bytes) }
}

/// Creates an unfinished file in the folder where it will be placed. Dropping it removes the file. Mode 0600.
///
/// # Errors
/// `STORAGE_FULL`, `INTERNAL`.
pub fn unfinished(folder: &Path) -> Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(folder)
        .map_err(|error| Error::io(format_args!("cannot write in `{}`", folder.display()), error))
}

/// Replaces the file at `path` atomically. The change is durable when this returns: temporary file, fsync,
/// rename, fsync of the folder.
///
/// # Errors
/// `STORAGE_FULL`, `INTERNAL`; the file at `path` then has its old content or all of the new content.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |error| Error::io(format_args!("cannot write `{}`", path.display()), error);
    let folder = folder_of(path);
    let mut file = unfinished(folder)?;
    file.write_all(bytes).map_err(fail)?;
    finish(file.as_file(), path)?;
    place(file.into_temp_path(), path)
}

/// Flushes a written file to the disk. Call it before [`place`].
///
/// # Errors
/// `STORAGE_FULL`, `INTERNAL`.
pub fn finish(file: &File, path: &Path) -> Result<()> {
    file.sync_all().map_err(|error| Error::io(format_args!("cannot write `{}`", path.display()), error))
}

/// Renames a finished file to `path`, replaces any file there, and makes the change durable.
///
/// # Errors
/// `STORAGE_FULL`, `INTERNAL`.
pub fn place(file: TempPath, path: &Path) -> Result<()> {
    let fail = |error| Error::io(format_args!("cannot write `{}`", path.display()), error);
    file.persist(path).map_err(|error| fail(error.error))?;
    sync_folder(folder_of(path)).map_err(fail)
}

/// Places a file in another folder too, under the same name, in place of any file there; removes that one if there is no file.
/// Both names have the same content until one of them is replaced.
///
/// # Errors
/// `STORAGE_FULL`, `INTERNAL`.
pub fn place_too(path: &Path, folder: &Path) -> Result<()> {
    let Some(name) = path.file_name() else { return Ok(()) };
    let placed = folder.join(name);
    let fail = |error| Error::io(format_args!("cannot write `{}`", placed.display()), error);
    if !path.exists() {
        return match fs::remove_file(&placed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
            _ => Ok(()),
        };
    }
    let fresh = tempfile::Builder::new().prefix(UNFINISHED).make_in(folder, |fresh| {
        fs::hard_link(path, fresh).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => Err(error),
            // A file system without hard links.
            _ => fs::copy(path, fresh).map(drop),
        })
    });
    // A rename of one name of a file to another name of it does nothing, and leaves the first one.
    let fresh = fresh.map_err(fail)?.into_temp_path();
    fs::rename(&fresh, &placed).map_err(fail)
}

/// Writes `bytes` to `path` unless a file exists there. Returns whether it wrote the file.
///
/// # Errors
/// `STORAGE_FULL`, `INTERNAL`.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<bool> {
    let fail = |error| Error::io(format_args!("cannot write `{}`", path.display()), error);
    let folder = folder_of(path);
    let mut file = unfinished(folder)?;
    file.write_all(bytes).map_err(fail)?;
    finish(file.as_file(), path)?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_folder(folder).map(|()| true).map_err(fail),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(fail(error.error)),
    }
}

/// Flushes the names in a folder to the disk.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes the unfinished files of crashed writers from a folder, and returns how many. Keeps files that are
/// younger than `age`, because another process may still be writing them.
///
/// # Errors
/// `INTERNAL` if the folder cannot be read. A file that cannot be removed stays.
pub fn sweep(folder: &Path, age: Duration) -> Result<usize> {
    let fail = |error| Error::io(format_args!("cannot read `{}`", folder.display()), error);
    let mut swept = 0;
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(UNFINISHED));
        let old = || {
            let written = entry.metadata().and_then(|meta| meta.modified()).ok();
            age.is_zero() || written.is_some_and(|at| at.elapsed().is_ok_and(|since| since >= age))
        };
        if ours && old() && fs::remove_file(entry.path()).is_ok() {
            swept += 1;
        }
    }
    Ok(swept)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_keeps() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert!(!write_new(&path, b"three").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn reads_no_more_than_it_should() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "text").unwrap();
        assert_eq!(read_text(&path).unwrap(), "text");
        assert_eq!(read(&path, 4).unwrap(), b"text");
        assert_eq!(read(&path, 3).unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // It takes no space on the disk, and would take all memory.
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read_text(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read_text(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn sweep_removes_unfinished_files() {
        let folder = tempfile::tempdir().unwrap();
        let left = unfinished(folder.path()).unwrap().into_temp_path().keep().unwrap();
        fs::write(folder.path().join("kept"), b"").unwrap();
        assert_eq!(sweep(folder.path(), Duration::from_secs(60)).unwrap(), 0);
        assert_eq!(sweep(folder.path(), Duration::ZERO).unwrap(), 1);
        assert!(!left.exists());
        assert!(folder.path().join("kept").exists());
    }
}
