//! The layers that lie on the disk: home, settings, key, modules, compiled code.
//!
//! In: a home's path. Out: findings; the home where it can be entered, and whether all of it is well. Must not
//! know: processes, but for those that hold a lock; other nodes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::{self, Use, refused};
use super::{Findings, Found, Patient, Sick, stopped};
use crate::settings;
use gvm_host::DeviceKey;
use gvm_host::Home;
use gvm_host::Reason;
use gvm_host::gpmd::record::{Record, holder, is_running};
use gvm_host::index::{Index, Resolved};
use gvm_host::store;
use gvm_host::system::process;
use gvm_host::text::quote;
use gvm_host::{Code, Error};

/// In their order.
pub const LAYERS: &[&str] = &["home", "settings", "key", "modules", "compiled"];

/// What must fit on the home's disk, in bytes: what starting writes, and a small module.
const ROOM: usize = 64 << 10;

/// What the disk has of a home.
pub struct Disk {
    pub home: Home,
    /// Whether its key serves.
    pub key: bool,
    /// Whether a node can start on it.
    pub ready: bool,
}

/// Looks at all of them; none where nothing more can be looked at.
pub fn examine(findings: &mut Findings, patient: &Patient) -> Option<Disk> {
    let home = findings.note("home", home(patient))?;
    let settings = findings.note("settings", settings(patient));
    let key = findings.note("key", key(&home, patient));
    let stored = findings.note("modules", modules(&home, patient));
    let compiled = findings.note("compiled", compiled(&home));
    let index = stored.is_some() || store::read_index(&home).is_ok();
    let ready = settings.and(key).and(compiled).is_some() && index;
    Some(Disk { home, key: key.is_some(), ready })
}

fn home(patient: &Patient) -> Found<Home> {
    let path = std::path::absolute(&patient.home).unwrap_or_else(|_| patient.home.clone());
    let shown = path.display();
    if let Some(sick) = refused(&path, Use::Folder) {
        return Err(sick);
    }
    let Ok(meta) = path.metadata() else { return Err(absent(&path, patient)) };
    let opened = Home::existing(&path).map_err(|error| {
        Sick::of(&error, || match error.code() {
            Code::HomeInsecure => format!(
                "choose a home of your own with --home or GHOST_HOME; or give it to yourself, as root: chown -R {} {}",
                rustix::process::geteuid().as_raw(),
                quote::path(&path)
            ),
            Code::Syntax => "choose another home with --home or GHOST_HOME".to_owned(),
            _ => format!(
                "end what runs in this home ({gpmd} kill), rm {id}, {gpmd} start",
                gpmd = patient.commands.gpmd,
                id = quote::path(&path.join("home.id"))
            ),
        })
    })?;
    room(&path)?;
    let mode = meta.mode() & 0o777;
    let id = path.join("home.id");
    if !id.exists()
        && let Some(pid) = process::holder(&opened.gpmd_lock())
        && Record::read(&opened).is_some()
    {
        return Err(Sick::new(
            format!("{} is gone while {} runs with it", id.display(), process::called(pid)),
            format!("kill {pid}, then {} start; and start its nodes again", patient.commands.gpmd),
        ));
    }
    let parts = [(opened.nodes(), Use::Folder), (opened.history(), Use::Write)];
    if let Some(sick) = parts.iter().find_map(|(part, how)| refused(part, *how)) {
        return Err(sick);
    }
    let empty = if id.exists() { "" } else { ", empty yet" };
    Ok((opened, format!("{shown}, mode {mode:03o}{empty}")))
}

/// Why there is no home, and whether one can be made there.
fn absent(path: &Path, patient: &Patient) -> Sick {
    if let Ok(target) = fs::read_link(path) {
        return Sick::new(
            format!("{} is a link to {}, which is not there", path.display(), target.display()),
            format!("correct the link; or rm {}, then {} start", quote::path(path), patient.commands.gpmd),
        );
    }
    let relative = match patient.home.is_relative() {
        true => format!(" (given as {}, which counts from the folder you are in)", patient.home.display()),
        false => String::new(),
    };
    let words = format!("there is no home at {}{relative}", path.display());
    if path.to_str().is_none() {
        return Sick::new(
            format!("{words}, and none can be made: its path is not UTF-8"),
            "choose another home with --home or GHOST_HOME",
        );
    }
    let above = path.ancestors().skip(1).find(|folder| folder.exists());
    match above.and_then(|folder| refused(folder, Use::Folder)) {
        Some(sick) => Sick::new(format!("{words}, and none can be made: {}", sick.words), sick.fix),
        None => {
            let full = above.and_then(|folder| rustix::fs::statvfs(folder).ok());
            match full.is_some_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM as u64) {
                true => Sick::new(
                    format!("{words}, and none can be made: its disk is full"),
                    "free some space on its disk",
                ),
                false => Sick::new(words, format!("{} start makes it", patient.commands.gpmd)),
            }
        }
    }
}

/// A disk that is full, or mounted to be read alone, is found by writing.
fn room(home: &Path) -> Result<(), Sick> {
    let written = tempfile::tempfile_in(home).and_then(|mut file| {
        // Not zeros alone: some disks do not store them.
        let bytes: Vec<u8> = (0..ROOM).map(|place| (place % 251) as u8 | 1).collect();
        file.write_all(&bytes).and_then(|()| file.sync_data())
    });
    written.map_err(|error| files::disk(home, error))
}

fn settings(patient: &Patient) -> Found<()> {
    let path = patient.home.join(settings::FILE);
    if let Some(sick) = refused(&path, Use::Read) {
        return Err(sick);
    }
    match &patient.settings {
        Ok(()) if path.exists() => Ok(((), format!("{} can be read", path.display()))),
        Ok(()) => Ok(((), format!("there is no {}: all are the defaults", settings::FILE))),
        Err(error) => Err(Sick::of(error, || match error.reason() == Some(Reason::Settings) {
            true => "correct the line in config.toml, or remove it".to_owned(),
            false => "correct what it names, on the command line or in the environment".to_owned(),
        })),
    }
}

fn key(home: &Home, patient: &Patient) -> Found<()> {
    let (path, gpmd) = (home.device_key(), &patient.commands.gpmd);
    if !path.exists() {
        return match is_running(home) && Record::read(home).is_some() {
            false => Ok(((), "none yet: gpmd makes it when it starts".to_owned())),
            true => Err(Sick::new(
                format!("{} is gone while gpmd runs with it", path.display()),
                format!("{gpmd} kill, then {gpmd} start makes a new one; start its nodes again, too"),
            )),
        };
    }
    if let Some(sick) = refused(&path, Use::Read) {
        return Err(sick);
    }
    let opened =
        DeviceKey::open(home).map(|_| ((), format!("{} is private and can be read", path.display())));
    opened.map_err(|error| {
        Sick::of(&error, || {
            format!(
                "{gpmd} kill; rm {}; {gpmd} start: it makes a new key; start its nodes again, too",
                quote::path(&path)
            )
        })
    })
}

fn modules(home: &Home, patient: &Patient) -> Found<()> {
    let (path, gpmd) = (home.index(), &patient.commands.gpmd);
    if let Some(sick) = refused(&home.modules(), Use::Folder).or_else(|| refused(&path, Use::Read)) {
        return Err(sick);
    }
    // What gpmd has in memory is written anew with whatever changes next.
    let again = match is_running(home) {
        true => format!(
            "upload any module again: a gpmd that has run since before still knows all, and writes {} anew; else \
             upload each again",
            path.display()
        ),
        false => format!("{}, and upload the modules again", files::aside(&path)),
    };
    if !path.exists() {
        let files = wasm_files(&home.modules());
        return match files {
            0 => Ok(((), "none stored yet".to_owned())),
            _ => Err(Sick::new(
                format!("{} is gone, and {files} module files stand without a name", path.display()),
                if is_running(home) { again } else { "upload the modules again".to_owned() },
            )),
        };
    }
    let index = store::read_index(home).map_err(|error| {
        Sick::of(&error, || match error.code() {
            Code::VersionMismatch => {
                "install a newer release of gvm and gpmd: this home was used by one".to_owned()
            }
            _ => again.clone(),
        })
    })?;
    let broken = damaged(home, &index);
    let count = index.entries().count();
    match broken.as_slice() {
        [] => Ok(((), format!("{count} stored, each as it was uploaded"))),
        [(first, sick), ..] => Err(Sick::new(
            format!("{} of {count} cannot be read; the first is {first}: {}", broken.len(), sick.words),
            match sick.fix.as_str() {
                "" => format!("upload {first} again; or {gpmd} wasm remove {first}"),
                fix => fix.to_owned(),
            },
        )),
    }
}

fn wasm_files(folder: &Path) -> usize {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "wasm")).count()
}

/// The versions whose files are not what was uploaded; without a fix where another upload is the only one.
fn damaged(home: &Home, index: &Index) -> Vec<(String, Sick)> {
    let read = |found: Resolved<'_>| {
        let name = format!("{}@{}", found.name, found.version);
        if let Some(sick) = refused(&home.module(found.entry.sha256), Use::Read) {
            return Some((name, sick));
        }
        let error: Error = store::read_module(home, found.entry.sha256).err()?;
        Some((name, Sick::of(&error, String::new)))
    };
    index.entries().filter_map(read).collect()
}

/// Whether code can be kept, and nobody holds up a compilation.
fn compiled(home: &Home) -> Found<()> {
    let root = home.compiled();
    if let Some(sick) = refused(&root, Use::Folder) {
        return Err(sick);
    }
    let entries = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let (mut modules, gpmd) = (0, holder(home));
    for folder in entries(&root).into_iter().filter(|path| path.is_dir()) {
        if let Some(sick) = refused(&folder, Use::Folder) {
            return Err(sick);
        }
        for file in entries(&folder) {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("sum") => modules += 1,
                Some("lock") => held_up(&file, gpmd)?,
                _ => {}
            }
        }
    }
    Ok(((), format!("{modules} modules are compiled; the others are when they are first called")))
}

/// A compilation that waits for a process that was stopped: whoever calls the module waits with it.
fn held_up(lock: &Path, gpmd: Option<u32>) -> Result<(), Sick> {
    let Some(holder) = process::holder(lock) else { return Ok(()) };
    let workers = process::children(holder)
        .into_iter()
        .filter(|child| process::words(*child).iter().any(|word| word == gvm_host::compiler::WORD));
    // Of gpmd itself its own layer tells.
    for pid in std::iter::once(holder).filter(|pid| Some(*pid) != gpmd).chain(workers) {
        if let Some(sick) = stopped(pid, "the compiler") {
            return Err(sick);
        }
    }
    Ok(())
}
