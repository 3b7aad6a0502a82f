//! Files of a home, and certificates.
//!
//! In: the content of a file. Out: a panic if it reads differently after it is written. Must not know: who wrote it.

use std::time::{Duration, UNIX_EPOCH};

use gvm_host::index::Index;
use gvm_host::internals::trust::roster_file;
use gvm_host::{Home, SecretKey, certificate};

pub fn index(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(index) = Index::from_json(text) else { return };
    let written = index.to_json().unwrap();
    let again = Index::from_json(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again.to_json().unwrap(), written);
    for resolved in index.entries() {
        assert!(index.holds(resolved.entry.sha256));
    }
}

thread_local! {
    static HOME: (Home, tempfile::TempDir) = {
        let folder = tempfile::tempdir().unwrap();
        (Home::open(folder.path().join("home")).unwrap(), folder)
    };
}

pub fn roster(data: &[u8]) {
    HOME.with(|(home, _)| {
        std::fs::write(home.roster(), data).unwrap();
        let Ok(Some(roster)) = roster_file::read(home) else { return };
        let devices = roster.devices();
        assert!(devices.iter().all(|device| roster.device(&device.key).is_some()));
        roster_file::write(home, &roster).unwrap();
        assert_eq!(roster_file::read(home).unwrap().as_ref(), Some(&roster));
    });
}

/// A certificate of a node, which somebody shows.
pub fn certificate(data: &[u8]) {
    thread_local! {
        static KEY: SecretKey = SecretKey::generate().unwrap();
    }
    KEY.with(|key| {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        assert!(
            certificate::check(data, |_| Some(key.public()), now).is_err(),
            "no other key can have signed this"
        );
    });
}
