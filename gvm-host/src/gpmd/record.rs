//! What a running gpmd says of itself in `gpmd.json`, and whether one runs.
//!
//! In: a home. Out: the record, and the lock that one gpmd holds. Must not know: sockets. The lock
//! tells the truth; the record may be of a daemon that crashed.

use std::fs::{self, File};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::base::home::Home;

/// What gpmd says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub pid: u32,
    pub version: String,
    /// Where nodes find it: `tcp:HOST:PORT`.
    pub address: String,
    /// Where commands find it: `tcp:HOST:PORT`.
    pub command_address: String,
    /// Where nodes that share the home and the device find it: `unix:PATH`.
    #[serde(default)]
    pub socket: String,
    /// The same for commands.
    #[serde(default)]
    pub command_socket: String,
    /// Since when it runs, in milliseconds since 1970.
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
            .map_err(|error| Error::internal(format!("gpmd's record: {error}")))?;
        durable::write(&home.gpmd_record(), (text + "\n").as_bytes())
    }

    /// The record in the home, if there is one that can be read.
    pub fn read(home: &Home) -> Option<Record> {
        serde_json::from_str(&fs::read_to_string(home.gpmd_record()).ok()?).ok()
    }
}

/// How long those who only ask may keep the lock from gpmd: each has it for microseconds.
const ASKERS: Duration = Duration::from_millis(100);

/// Proof that no other gpmd runs in the home. The kernel gives it back when the process ends,
/// however that comes.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for what the kernel does when it is closed")] File);

impl Lock {
    /// Takes the lock; none where a gpmd holds it.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `INTERNAL`.
    pub fn take(home: &Home) -> Result<Option<Lock>> {
        let path = home.gpmd_lock();
        let fail = |error: std::io::Error| Error::io(format_args!("cannot lock {}", path.display()), error);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Lock(file))),
                // Whoever asks whether gpmd runs has the lock for a moment too.
                Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < ASKERS => {
                    std::thread::sleep(Duration::from_millis(3));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(fail(error.into())),
            }
        }
    }
}

/// Whether a gpmd runs in the home, or is about to.
pub fn is_running(home: &Home) -> bool {
    let Ok(file) = File::open(home.gpmd_lock()) else { return false };
    // Shared, so that two who ask do not take each other for gpmd.
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

/// The process that holds the lock; none where no gpmd runs, or the system does not tell.
pub fn holder(home: &Home) -> Option<u32> {
    crate::base::process::holder(&home.gpmd_lock())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_the_lock() {
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
