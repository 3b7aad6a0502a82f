//! The layers of one device: home, settings, key, modules, gpmd, its answer, version and ports.
//!
//! In: a home's path. Out: findings; the home and what its gpmd says where all is well. Must not know: other
//! nodes.

use std::os::unix::fs::MetadataExt;

use super::{Findings, Patient, Sick, about_gpmd};
use crate::error::{Code, Error, Result};
use crate::gpmd::control::{Control, Status};
use crate::gpmd::index::Index;
use crate::gpmd::reach::Reach;
use crate::gpmd::record::{Record, is_running};
use crate::gpmd::store;
use crate::home::Home;
use crate::key::DeviceKey;

/// In their order.
pub const LAYERS: &[&str] = &["home", "settings", "key", "modules", "gpmd", "answer", "version", "ports"];

type Found<T> = std::result::Result<(T, String), Sick>;

/// Looks at all of them; what stands on one that fails is left out.
pub fn examine(findings: &mut Findings, patient: &Patient, settings: Result<()>) -> Option<(Home, Status)> {
    let home = findings.note("home", home(patient))?;
    let settings = settings.map(|()| ((), "config.toml can be read, or there is none".to_owned()));
    let settled = findings.note(
        "settings",
        settings.map_err(|error| Sick::of(&error, || "correct the line in config.toml, or remove it".into())),
    );
    let key = findings.note("key", key(&home));
    let stored = findings.note("modules", modules(&home));
    findings.note("gpmd", running(&home))?;
    let status = findings.note("answer", answer(&home))?;
    let same = findings.note("version", version(&status));
    key?;
    let ports = findings.note("ports", ports(&home, &status));
    settled.and(stored).and(same).and(ports)?;
    Some((home, status))
}

fn home(patient: &Patient) -> Found<Home> {
    let path = patient.home.display();
    if !patient.home.exists() {
        return Err(Sick::new(format!("there is no home at {path}"), "gpmd start makes it"));
    }
    let home = Home::open(&patient.home).map_err(|error| {
        Sick::of(&error, || match error.code() {
            Code::StorageFull => "free some space on its disk".to_owned(),
            Code::HomeInsecure => {
                format!("choose a home of your own with --home, or give {path} to yourself")
            }
            _ => format!("look at {path} and what the sentence names in it"),
        })
    })?;
    let mode = patient.home.metadata().map_or(0, |meta| meta.mode() & 0o777);
    // A disk that is full, or mounted to be read alone, is found by writing.
    tempfile::tempfile_in(home.path()).map_err(|error| {
        Sick::new(
            format!("{path} cannot be written: {error}"),
            "free some space, or mount its disk for writing",
        )
    })?;
    Ok((home, format!("{path}, mode {mode:03o}")))
}

fn key(home: &Home) -> Found<()> {
    let path = home.device_key();
    if !path.exists() {
        let running = is_running(home);
        return match running {
            false => Ok(((), "none yet: gpmd makes it when it starts".to_owned())),
            true => Err(Sick::new(
                format!("{} is gone while gpmd runs with it", path.display()),
                "gpmd kill, then gpmd start makes a new one",
            )),
        };
    }
    DeviceKey::open(home).map(|_| ((), format!("{} is private and can be read", path.display()))).map_err(
        |error| {
            Sick::of(&error, || format!("gpmd kill; rm {}; gpmd start: it makes a new key", path.display()))
        },
    )
}

fn modules(home: &Home) -> Found<()> {
    let index = store::read_index(home).map_err(|error| {
        Sick::of(&error, || {
            format!(
                "correct {path}, or move it away and upload the modules again",
                path = home.index().display()
            )
        })
    })?;
    let broken = damaged(home, &index);
    let count = index.entries().count();
    match broken.as_slice() {
        [] => Ok(((), format!("{count} stored, each as it was uploaded"))),
        [(first, error), ..] => Err(Sick::new(
            format!("{} of {count} cannot be read; the first is {first}: {error}", broken.len()),
            format!("gpmd wasm remove {first}, then upload it again"),
        )),
    }
}

/// The versions whose files are not what was uploaded.
fn damaged(home: &Home, index: &Index) -> Vec<(String, Error)> {
    let read = |found: crate::gpmd::index::Resolved<'_>| {
        let error = store::read_module(home, found.entry.sha256).err()?;
        Some((format!("{}@{}", found.name, found.version), error))
    };
    index.entries().filter_map(read).collect()
}

fn running(home: &Home) -> Found<()> {
    let record = Record::read(home);
    match (is_running(home), record) {
        (true, Some(record)) => Ok(((), format!("runs as process {}", record.pid))),
        (true, None) => Ok(((), "runs, and is starting or ending".to_owned())),
        (false, Some(record)) => Err(Sick::new(
            format!(
                "the gpmd that ran as process {} ended without a word; its log is {}",
                record.pid,
                home.gpmd_log().display()
            ),
            "gpmd start",
        )),
        (false, None) => Err(Sick::new("no gpmd runs in this home", "gpmd start")),
    }
}

fn answer(home: &Home) -> Found<Status> {
    let status = Control::connect(home).and_then(|control| control.status());
    status
        .map(|status| {
            let words = format!(
                "{} nodes, {} modules, at {}",
                status.nodes.len(),
                status.modules,
                status.command_socket
            );
            (status, words)
        })
        .map_err(|error| {
            let gone = !home.command_socket().exists();
            match gone {
                true => Sick::new(
                    format!("it runs, and its socket {} is gone", home.command_socket().display()),
                    "end its process (its number stands above), then gpmd start",
                ),
                false => Sick::of(&error, || about_gpmd(&error, home)),
            }
        })
}

fn version(status: &Status) -> Found<()> {
    let own = env!("CARGO_PKG_VERSION");
    match status.version == own {
        true => Ok(((), format!("gvm and gpmd are {own}"))),
        false => Err(Sick::new(
            format!("gvm is {own}, the gpmd that runs is {}", status.version),
            "install both from one release; gpmd kill, then gpmd start",
        )),
    }
}

/// Whether gpmd's port for commands lets the home's key in; that for nodes is served by the same hands.
fn ports(home: &Home, status: &Status) -> Found<()> {
    let asked = status.command_address.parse().and_then(|address| Reach::at(address, home));
    let greeted = asked.and_then(|reach| Control::connect_by(home, &reach));
    greeted.map(|_| ((), format!("{} and {} by TLS", status.address, status.command_address))).map_err(
        |error| {
            Sick::of(&error, || match error.code() {
                Code::AuthFailed => {
                    "the key was changed while gpmd ran: gpmd kill, then gpmd start".to_owned()
                }
                Code::GpmdNotRunning => format!(
                    "let programs of this device reach {}: a firewall, or another program, stands between",
                    status.command_address
                ),
                _ => about_gpmd(&error, home),
            })
        },
    )
}
