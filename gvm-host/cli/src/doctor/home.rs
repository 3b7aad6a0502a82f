//! Checks the layers on the disk: home, settings, key, modules, compiled code.
//!
//! In: the path of a home. Out: findings; the home if it can be used, and whether its key is valid and a node
//! can start. Must not know: processes, except those that hold a lock; other nodes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::{self, Use, refused};
use super::{Findings, Found, Problem, Setup, stopped};
use crate::settings;
use gvm_host::gpmd::record::{Record, holder, is_running};
use gvm_host::index::{Index, Resolved};
use gvm_host::system::process;
use gvm_host::text::quote;
use gvm_host::{Code, DeviceKey, Error, Home, Reason, store};

/// The layers in their order.
pub const LAYERS: &[&str] = &["home", "settings", "key", "modules", "compiled"];

/// The space that the disk must have, in bytes: for the files that a start writes, and a small module.
const ROOM: usize = 64 << 10;

/// The state of a home on the disk.
pub struct Disk {
    pub home: Home,
    /// Whether its key is valid, or will be created.
    pub key: bool,
    /// Whether a node can start in it.
    pub ready: bool,
}

/// Checks the layers. Returns `None` if the home cannot be used, so that no other layer can be checked.
pub fn examine(findings: &mut Findings, setup: &Setup) -> Option<Disk> {
    let home = findings.note("home", home(setup))?;
    let settings = findings.note("settings", settings(setup));
    let key = findings.note("key", key(&home, setup));
    let stored = findings.note("modules", modules(&home, setup));
    let compiled = findings.note("compiled", compiled(&home));
    let index = stored.is_some() || store::read_index(&home).is_ok();
    let ready = settings.and(key).and(compiled).is_some() && index;
    Some(Disk { home, key: key.is_some(), ready })
}

fn home(setup: &Setup) -> Found<Home> {
    let path = std::path::absolute(&setup.home).unwrap_or_else(|_| setup.home.clone());
    let shown = path.display();
    if let Some(problem) = refused(&path, Use::Folder) {
        return Err(problem);
    }
    let Ok(meta) = path.metadata() else { return Err(absent(&path, setup)) };
    let opened = Home::existing(&path).map_err(|error| {
        Problem::of(&error, || match error.code() {
            Code::HomeInsecure => format!(
                "choose another home with --home or GHOST_HOME; or take ownership, as root: chown -R {} {}",
                rustix::process::geteuid().as_raw(),
                quote::path(&path)
            ),
            Code::Syntax => "choose another home with --home or GHOST_HOME".to_owned(),
            _ => format!(
                "stop gpmd ({gpmd} kill) and the nodes of this home; then rm {id}, and {gpmd} start",
                gpmd = setup.commands.gpmd,
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
        return Err(Problem::new(
            format!("{} is missing, but {} still uses it", id.display(), process::called(pid)),
            format!("kill {pid}, then {} start; restart its nodes too", setup.commands.gpmd),
        ));
    }
    let parts = [(opened.nodes(), Use::Folder), (opened.history(), Use::Write)];
    if let Some(problem) = parts.iter().find_map(|(part, how)| refused(part, *how)) {
        return Err(problem);
    }
    let empty = if id.exists() { "" } else { ", not used yet" };
    Ok((opened, format!("{shown}, mode {mode:03o}{empty}")))
}

/// Returns the problem of a home that does not exist, and whether it can be created.
fn absent(path: &Path, setup: &Setup) -> Problem {
    if let Ok(target) = fs::read_link(path) {
        return Problem::new(
            format!("{} is a link to {}, which does not exist", path.display(), target.display()),
            format!("correct the link, or rm {}, then {} start", quote::path(path), setup.commands.gpmd),
        );
    }
    let relative = match setup.home.is_relative() {
        true => format!(" (from the relative path {})", setup.home.display()),
        false => String::new(),
    };
    let words = format!("there is no home at {}{relative}", path.display());
    if path.to_str().is_none() {
        return Problem::new(
            format!("{words}, and none can be created: the path is not UTF-8"),
            "choose another home with --home or GHOST_HOME",
        );
    }
    let above = path.ancestors().skip(1).find(|folder| folder.exists());
    match above.and_then(|folder| refused(folder, Use::Folder)) {
        Some(problem) => {
            Problem::new(format!("{words}, and none can be created: {}", problem.message), problem.fix)
        }
        None => {
            let full = above.and_then(|folder| rustix::fs::statvfs(folder).ok());
            match full.is_some_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < ROOM as u64) {
                true => Problem::new(
                    format!("{words}, and none can be created: the disk is full"),
                    "free some space on the disk",
                ),
                false => Problem::new(words, format!("{} start, which creates it", setup.commands.gpmd)),
            }
        }
    }
}

/// Checks by writing that the disk is not full and not read-only.
fn room(home: &Path) -> Result<(), Problem> {
    let written = tempfile::tempfile_in(home).and_then(|mut file| {
        // Some file systems use no space for zeros.
        let bytes: Vec<u8> = (0..ROOM).map(|place| (place % 251) as u8 | 1).collect();
        file.write_all(&bytes).and_then(|()| file.sync_data())
    });
    written.map_err(|error| files::disk(home, error))
}

fn settings(setup: &Setup) -> Found<()> {
    let path = setup.home.join(settings::FILE);
    if let Some(problem) = refused(&path, Use::Read) {
        return Err(problem);
    }
    match &setup.settings {
        Ok(()) if path.exists() => Ok(((), format!("{} is valid", path.display()))),
        Ok(()) => Ok(((), format!("there is no {}; the defaults apply", settings::FILE))),
        Err(error) => Err(Problem::of(error, || match error.reason() == Some(Reason::Settings) {
            true => format!("in config.toml, {}", error.help().unwrap_or("correct the line, or remove it")),
            false => match error.help() {
                Some(help) => help.to_owned(),
                None => "correct the value on the command line or in the environment".to_owned(),
            },
        })),
    }
}

fn key(home: &Home, setup: &Setup) -> Found<()> {
    let (path, gpmd) = (home.device_key(), &setup.commands.gpmd);
    if !path.exists() {
        return match is_running(home) && Record::read(home).is_some() {
            false => Ok(((), "no key yet; gpmd creates it when it starts".to_owned())),
            true => Err(Problem::new(
                format!("{} is missing, but gpmd still uses it", path.display()),
                format!("{gpmd} kill, then {gpmd} start, which creates a new key; restart its nodes too"),
            )),
        };
    }
    if let Some(problem) = refused(&path, Use::Read) {
        return Err(problem);
    }
    let opened = DeviceKey::open(home).map(|_| ((), format!("{} is private and valid", path.display())));
    opened.map_err(|error| {
        Problem::of(&error, || {
            format!(
                "{gpmd} kill; rm {}; {gpmd} start, which creates a new key; restart its nodes too",
                quote::path(&path)
            )
        })
    })
}

fn modules(home: &Home, setup: &Setup) -> Found<()> {
    let (path, gpmd) = (home.index(), &setup.commands.gpmd);
    if let Some(problem) = refused(&home.modules(), Use::Folder).or_else(|| refused(&path, Use::Read)) {
        return Err(problem);
    }
    // gpmd writes the whole index from memory at the next change.
    let again = match is_running(home) {
        true => format!(
            "upload any module again: if gpmd was running before the file was damaged, it has all modules in \
             memory and rewrites {}; if not, upload every module again",
            path.display()
        ),
        false => format!("{}, then upload the modules again", files::aside(&path)),
    };
    if !path.exists() {
        let files = wasm_files(&home.modules());
        return match files {
            0 => Ok(((), "no modules stored yet".to_owned())),
            _ => Err(Problem::new(
                format!("{} is missing, but there are {files} module files", path.display()),
                if is_running(home) { again } else { "upload the modules again".to_owned() },
            )),
        };
    }
    let index = store::read_index(home).map_err(|error| {
        Problem::of(&error, || match error.code() {
            Code::VersionMismatch => {
                "install a newer release of gvm and gpmd: one has written this file".to_owned()
            }
            _ => again.clone(),
        })
    })?;
    let broken = damaged(home, &index);
    let count = index.entries().count();
    match broken.as_slice() {
        [] => Ok(((), format!("{count} stored, all intact"))),
        [(first, problem), ..] => Err(Problem::new(
            format!("{} of {count} cannot be read; the first is {first}: {}", broken.len(), problem.message),
            match problem.fix.as_str() {
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

/// Returns the versions whose files differ from the upload. The fix is empty if only another upload helps.
fn damaged(home: &Home, index: &Index) -> Vec<(String, Problem)> {
    let read = |found: Resolved<'_>| {
        let name = format!("{}@{}", found.name, found.version);
        if let Some(problem) = refused(&home.module(found.entry.sha256), Use::Read) {
            return Some((name, problem));
        }
        let error: Error = store::read_module(home, found.entry.sha256).err()?;
        Some((name, Problem::of(&error, String::new)))
    };
    index.entries().filter_map(read).collect()
}

/// Checks that compiled code can be stored, and that no compilation is blocked.
fn compiled(home: &Home) -> Found<()> {
    let root = home.compiled();
    if let Some(problem) = refused(&root, Use::Folder) {
        return Err(problem);
    }
    let entries = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let (mut modules, gpmd) = (0, holder(home));
    for folder in entries(&root).into_iter().filter(|path| path.is_dir()) {
        if let Some(problem) = refused(&folder, Use::Folder) {
            return Err(problem);
        }
        for file in entries(&folder) {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("sum") => modules += 1,
                Some("lock") => held_up(&file, gpmd)?,
                _ => {}
            }
        }
    }
    Ok(((), format!("{modules} modules compiled; others are compiled at their first call")))
}

/// Checks that the process which compiles a module is not suspended: calls of the module would wait for it.
fn held_up(lock: &Path, gpmd: Option<u32>) -> Result<(), Problem> {
    let Some(holder) = process::holder(lock) else { return Ok(()) };
    let workers = process::children(holder)
        .into_iter()
        .filter(|child| process::words(*child).iter().any(|word| word == gvm_host::compiler::WORD));
    // gpmd itself is checked by its own layer.
    for pid in std::iter::once(holder).filter(|pid| Some(*pid) != gpmd).chain(workers) {
        if let Some(problem) = stopped(pid, "the compiler") {
            return Err(problem);
        }
    }
    Ok(())
}
