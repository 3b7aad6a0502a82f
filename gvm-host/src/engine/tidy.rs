//! Limits the size of the folder of compiled code.
//!
//! In: the folder, and its largest age and size. Out: the same folder without the entries that are too old, without
//! the least recently used ones beyond its size, and without the files of crashed compilations. A removed entry is
//! compiled again when it is needed; a process that has mapped it keeps it. Must not know: which module or engine an
//! entry belongs to.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The extensions of compiled code, its checksum and its lock, and the prefix of a compilation's folder.
pub(super) const CODE: &str = "cwasm";
pub(super) const SUM: &str = "sum";
pub(super) const LOCK: &str = "lock";
pub(super) const WORK: &str = ".compile-";
/// The prefix of the locks beside the engines' folders. A process that holds one of them may compile.
pub(super) const TURN: &str = "turn-";
/// The folder beside them that remembers which code had its checksum. It limits its own size.
pub(super) const KNOWN: &str = "known";

/// A use is recorded only if the last record is older than this. That is precise enough to compare weeks.
const NOTED: Duration = Duration::from_secs(24 * 3600);

/// Files of a compilation that are older than this are from one that crashed.
const LEFT: Duration = Duration::from_secs(3600);

/// The limits of the folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub age: Duration,
    pub bytes: u64,
}

struct Entry {
    code: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Records that an entry was used, as the modification time of its checksum.
pub(super) fn used(sum: &Path) {
    let now = SystemTime::now();
    let noted = |file: &File| file.metadata().and_then(|meta| meta.modified());
    let Ok(file) = File::open(sum) else { return };
    if noted(&file).is_ok_and(|noted| since(noted, now) > NOTED)
        && let Err(error) = file.set_modified(now)
    {
        tracing::debug!("cannot record the use of {}: {error}", sum.display());
    }
}

/// Removes the entries beyond the limits. Returns how many it removed.
///
/// # Errors
/// Those of the disk; entries that were removed before the error stay removed.
pub(super) fn tidy(root: &Path, most: Most, now: SystemTime) -> io::Result<usize> {
    let mut entries = Vec::new();
    for engine in folders(root)? {
        gather(&engine, now, &mut entries)?;
        // This fails if the folder is not empty, as intended.
        let _ = fs::remove_dir(&engine);
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
    let (mut bytes, mut removed) = (0, 0);
    for entry in entries {
        bytes += entry.bytes;
        if bytes > most.bytes || since(entry.used, now) > most.age {
            // The checksum first: code with no checksum is compiled again.
            gone(fs::remove_file(entry.code.with_extension(SUM)))?;
            gone(fs::remove_file(&entry.code))?;
            bytes -= entry.bytes;
            removed += 1;
        }
    }
    Ok(removed)
}

fn folders(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != KNOWN {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Collects the entries of one engine, and removes files that belong to no entry.
fn gather(engine: &Path, now: SystemTime, entries: &mut Vec<Entry>) -> io::Result<()> {
    for found in fs::read_dir(engine)? {
        let path = found?.path();
        // Another process may have removed it.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let changed = meta.modified()?;
        let extension = path.extension().and_then(OsStr::to_str);
        let work = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(WORK));
        match extension {
            Some(CODE) => {
                let sum = fs::metadata(path.with_extension(SUM)).and_then(|sum| sum.modified());
                entries.push(Entry { used: sum.unwrap_or(changed), bytes: meta.len(), code: path });
            }
            _ if since(changed, now) < LEFT => {}
            _ if work && meta.is_dir() => gone(fs::remove_dir_all(&path))?,
            Some(LOCK) => unlock(&path)?,
            Some(SUM) if !path.with_extension(CODE).exists() => gone(fs::remove_file(&path))?,
            _ => {}
        }
    }
    Ok(())
}

/// Removes a lock file that no process holds, while this process holds it.
fn unlock(path: &Path) -> io::Result<()> {
    match File::options().append(true).open(path) {
        Ok(file) if file.try_lock().is_ok() => gone(fs::remove_file(path)),
        _ => Ok(()),
    }
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn since(then: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const MOST: Most = Most { age: Duration::from_secs(30 * 24 * 3600), bytes: 1000 };

    fn entry(engine: &Path, name: &str, bytes: usize, unused: Duration) -> PathBuf {
        fs::create_dir_all(engine).unwrap();
        let code = engine.join(name).with_extension(CODE);
        fs::write(&code, vec![0; bytes]).unwrap();
        let sum = File::create(code.with_extension(SUM)).unwrap();
        sum.set_modified(SystemTime::now() - unused).unwrap();
        code
    }

    #[test]
    fn what_is_old_goes_and_its_folder_with_it() {
        let root = tempfile::tempdir().unwrap();
        let young = entry(&root.path().join("a"), "young", 10, DAY);
        let old = entry(&root.path().join("a"), "old", 10, 31 * DAY);
        let foreign = entry(&root.path().join("b"), "foreign", 10, 40 * DAY);
        assert_eq!(tidy(root.path(), MOST, SystemTime::now()).unwrap(), 2);
        assert!(young.exists() && young.with_extension(SUM).exists());
        assert!(!old.exists() && !old.with_extension(SUM).exists() && !foreign.exists());
        tidy(root.path(), MOST, SystemTime::now()).unwrap();
        assert!(!root.path().join("b").exists() && root.path().join("a").exists());
    }

    #[test]
    fn the_least_recently_used_goes_beyond_the_size() {
        let root = tempfile::tempdir().unwrap();
        let engine = root.path().join("a");
        let third = entry(&engine, "third", 400, 3 * DAY);
        let first = entry(&engine, "first", 500, DAY);
        let second = entry(&engine, "second", 400, 2 * DAY);
        let small = entry(&engine, "small", 50, 4 * DAY);
        assert_eq!(tidy(root.path(), MOST, SystemTime::now()).unwrap(), 1);
        assert!(first.exists() && second.exists() && !third.exists() && small.exists());
    }

    #[test]
    fn what_crashed_compilations_left_goes_and_what_runs_stays() {
        let root = tempfile::tempdir().unwrap();
        let engine = root.path().join("a");
        entry(&engine, "x", 1, DAY);
        let make = |name: &str| {
            let path = engine.join(name);
            let file = File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - 2 * LEFT).unwrap();
            (path, file)
        };
        let (held, holder) = make("held.lock");
        holder.lock().unwrap();
        let (free, _) = make("free.lock");
        let (orphan, _) = make("orphan.sum");
        let work = engine.join(".compile-1");
        fs::create_dir(&work).unwrap();
        fs::write(work.join("wasm"), b"x").unwrap();
        let fresh = engine.join(".compile-2");
        fs::create_dir(&fresh).unwrap();
        File::open(&work).unwrap().set_modified(SystemTime::now() - 2 * LEFT).unwrap();
        tidy(root.path(), MOST, SystemTime::now()).unwrap();
        assert!(held.exists() && fresh.exists());
        assert!(!free.exists() && !orphan.exists() && !work.exists());
    }

    #[test]
    fn a_use_keeps_an_entry() {
        let root = tempfile::tempdir().unwrap();
        let code = entry(&root.path().join("a"), "x", 10, 31 * DAY);
        used(&code.with_extension(SUM));
        assert_eq!(tidy(root.path(), MOST, SystemTime::now()).unwrap(), 0);
        assert!(code.exists());
    }
}
