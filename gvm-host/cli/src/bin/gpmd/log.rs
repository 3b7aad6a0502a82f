//! The daemon's log file. A full file is renamed, and replaces the one that was renamed before.
//!
//! In: lines. Out: `gpmd.log` and `gpmd.log.1`. Must not know: what is logged.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The size of a full file, in bytes: weeks of a busy device.
const MOST: u64 = 4 << 20;

/// A log file that is renamed when it is full.
pub struct Rotating {
    path: PathBuf,
    most: u64,
    file: File,
    size: u64,
}

impl Rotating {
    /// Opens the log at this path and appends to it.
    pub fn open(path: &Path) -> io::Result<Rotating> {
        Rotating::with(path, MOST)
    }

    fn with(path: &Path, most: u64) -> io::Result<Rotating> {
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Rotating { path: path.to_owned(), most, file, size })
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + line.len() as u64 > self.most {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = append(&self.path)?;
            self.size = 0;
        }
        let written = self.file.write(line)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpmd.log");
        std::fs::write(&path, "old\n").unwrap();
        let mut log = Rotating::with(&path, 12).unwrap();
        for line in ["one\n", "two\n", "three\n", "a line that is longer than a file\n", "four\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
        let before = std::fs::read_to_string(folder.path().join("gpmd.log.1")).unwrap();
        assert_eq!(before, "a line that is longer than a file\n");
    }
}
