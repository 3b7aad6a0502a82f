//! The record of a running gpmd (`gpmd.json`), and the lock that shows whether one runs.
//!
//! In: a home. Out: the record and the lock. Must not know: connections. Trust the lock: the record may be
//! left over from a gpmd that crashed.

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::base::home::Home;

/// The process, version and addresses of a running gpmd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub pid: u32,
    pub version: String,
    /// The port for nodes: `tcp:HOST:PORT`.
    pub address: String,
    /// The port for commands: `tcp:HOST:PORT`.
    pub command_address: String,
    /// The socket for nodes of the same device: `unix:PATH`.
    #[serde(default)]
    pub socket: String,
    /// The socket for commands.
    #[serde(default)]
    pub command_socket: String,
    /// When gpmd started, in milliseconds since 1970.
    #[serde(rename = "since")]
    pub since_ms: i64,
}

impl Record {
    /// Writes the record.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `INTERNAL`.
    pub fn write(&self, home: &Home) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::internal(format!("cannot encode gpmd's record: {error}")))?;
        durable::write(&home.gpmd_record(), (text + "\n").as_bytes())?;
        durable::place_too(&home.gpmd_record(), &home.shared())
    }

    /// Removes the record, if it is the one of this process.
    pub fn remove(home: &Home) {
        if Record::read(home).is_some_and(|record| record.pid == std::process::id()) {
            let _ = std::fs::remove_file(home.gpmd_record());
            let _ = durable::place_too(&home.gpmd_record(), &home.shared());
        }
    }

    /// Reads the record in the home. Returns `None` if it is missing or cannot be read.
    pub fn read(home: &Home) -> Option<Record> {
        serde_json::from_str(&durable::read_text(&home.gpmd_record()).ok()?).ok()
    }
}

/// How long [`Lock::take`] waits for checks by [`is_running`]. Each holds the lock for microseconds.
const CHECKS: Duration = Duration::from_millis(100);

/// Proof that no other gpmd runs in the home. The kernel releases it when the process ends, even by a crash.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the kernel releases the lock when the file is closed")] File);

impl Lock {
    /// Takes the lock. Returns `None` if another gpmd holds it.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `INTERNAL`.
    pub fn take(home: &Home) -> Result<Option<Lock>> {
        let path = home.gpmd_lock();
        let fail = |error: std::io::Error| Error::io(format_args!("cannot lock `{}`", path.display()), error);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Lock(file))),
                // `is_running` in another process also holds the lock for a moment.
                Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < CHECKS => {
                    std::thread::sleep(Duration::from_millis(3));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(fail(error.into())),
            }
        }
    }
}

/// Returns whether a gpmd runs, or is starting, in the home.
pub fn is_running(home: &Home) -> bool {
    let Ok(file) = File::open(home.gpmd_lock()) else { return false };
    // A shared lock, so that two checks at the same time do not mistake each other for gpmd.
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

/// Returns the process that holds the lock, or `None` if no gpmd runs or the system does not say.
pub fn holder(home: &Home) -> Option<u32> {
    crate::base::process::holder(&home.gpmd_lock())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        assert!(!is_running(&home));
        let lock = Lock::take(&home).unwrap();
        assert!(lock.is_some() && is_running(&home));
        assert!(Lock::take(&home).unwrap().is_none());
        drop(lock);
        assert!(!is_running(&home) && Lock::take(&home).unwrap().is_some());
    }
}
