//! Remembers facts about files for as long as the files do not change, so that large files need not be read again.
//!
//! In: an open file, a short text about its content. Out: the text, if the file is still the same. The memory is a
//! private folder with a small file per entry, and belongs to this user. Damaged and foreign entries count as missing. Must
//! not know: what the texts mean.
//!
//! As in the index of git, a file is the same if its place, its size and its times are. The time of the last change of the
//! inode is among them, which no program can set. An entry holds until the system is started again: then a disk
//! or a clock may have been exchanged, and what was written before a loss of power may be lost.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xxhash_rust::xxh3::xxh3_64;

use crate::base::durable;
use crate::base::limits;

/// A file that changed this short a time ago may change again without another time: clocks of file systems
/// are coarse (4 ms on most, up to 2 s).
const SETTLED: Duration = Duration::from_secs(2);

/// The longest entry, in bytes.
const ENTRY: u64 = 1024;

/// A version of a file: everything that changes when the content does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    /// When it was looked at.
    seen: SystemTime,
}

impl Version {
    /// Returns the version that a file has now. Take it before the file is read, and compare it afterwards with
    /// [`Version::holds`].
    ///
    /// # Errors
    /// Those of the system.
    pub fn of(file: &File) -> io::Result<Version> {
        let seen = SystemTime::now();
        let meta = file.metadata()?;
        Ok(Version {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            seen,
        })
    }

    /// Returns whether the file still has this version, so that what was read meanwhile is its content.
    pub fn holds(&self, file: &File) -> bool {
        Version::of(file).is_ok_and(|now| Version { seen: self.seen, ..now } == *self)
    }

    /// Returns the size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns whether every later change gets another time.
    fn settled(&self) -> bool {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1)) else {
            return false;
        };
        let changed = UNIX_EPOCH.checked_add(Duration::new(seconds, nanos));
        changed.and_then(|changed| self.seen.duration_since(changed).ok()).is_some_and(|age| age >= SETTLED)
    }

    /// Returns the text that begins an entry. It contains everything except when the file was looked at.
    fn text(&self, boot: &str) -> String {
        let Version { device, inode, size, modified, changed, seen: _ } = self;
        format!("{boot} {device} {inode} {size} {}.{} {}.{} ", modified.0, modified.1, changed.0, changed.1)
    }
}

/// A memory of facts about files.
#[derive(Clone, Debug)]
pub struct Memory {
    folder: PathBuf,
}

impl Memory {
    /// Returns the memory in this folder, whose parent is private to this user. The folder is created with the first entry.
    pub fn new(folder: PathBuf) -> Memory {
        Memory { folder }
    }

    /// Returns what is known about this version of a file.
    pub fn recall(&self, version: &Version) -> Option<String> {
        let mut file = File::open(self.entry(version)).ok()?;
        let meta = file.metadata().ok()?;
        let private = meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 == 0;
        if !private || meta.len() > ENTRY {
            return None;
        }
        let mut text = String::with_capacity(ENTRY as usize);
        Read::by_ref(&mut file).take(ENTRY).read_to_string(&mut text).ok()?;
        let (sum, entry) = text.split_once(' ')?;
        if sum != format!("{:016x}", xxh3_64(entry.as_bytes())) {
            return None;
        }
        entry.strip_prefix(&version.text(boot()?)).map(str::to_owned)
    }

    /// Remembers a fact about this version of a file, if every later change of the file will be noticed. The content was
    /// read after `version` was taken. A failure is not an error: the file will be read again.
    pub fn note(&self, version: &Version, file: &File, fact: &str) {
        if !version.settled() || !version.holds(file) || !has_good_times(file) {
            return;
        }
        let Some(mut entry) = boot().map(|boot| version.text(boot)) else { return };
        entry.push_str(fact);
        let mut text = String::new();
        let _ = write!(text, "{:016x} {entry}", xxh3_64(entry.as_bytes()));
        if text.len() as u64 <= ENTRY
            && let Err(error) = self.store(&self.entry(version), &text)
        {
            tracing::debug!("cannot write in {}: {error}", self.folder.display());
        }
    }

    fn store(&self, path: &Path, text: &str) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.make_room()?;
        let mut file = durable::unfinished(&self.folder).map_err(io::Error::other)?;
        file.write_all(text.as_bytes())?;
        // A loss of power may lose it, or leave a file that is not an entry.
        file.persist(path).map_err(|error| error.error).map(drop)
    }

    /// Removes the older half of the entries when there are too many, and with them what crashed writers left.
    fn make_room(&self) -> io::Result<()> {
        let paths: Vec<PathBuf> = fs::read_dir(&self.folder)?.flatten().map(|entry| entry.path()).collect();
        if paths.len() < limits::REMEMBERED_FILES {
            return Ok(());
        }
        let written = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let mut paths: Vec<_> = paths.into_iter().map(|path| (written(&path), path)).collect();
        paths.sort();
        for (_, path) in paths.iter().take(paths.len().saturating_sub(limits::REMEMBERED_FILES / 2)) {
            // Another process may have removed it.
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn entry(&self, version: &Version) -> PathBuf {
        self.folder.join(format!("{:x}-{:x}", version.device, version.inode))
    }
}

/// Returns what identifies the time since the system was started, where this is known.
fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let boot = BOOT.get_or_init(|| {
        let mut id = [0; 36];
        File::open("/proc/sys/kernel/random/boot_id").and_then(|mut file| file.read_exact(&mut id)).ok()?;
        std::str::from_utf8(&id).ok().map(str::to_owned)
    });
    boot.as_deref()
}

/// Returns whether the file is in a file system that records the time of every change by the clock of this system. Others
/// may take times from another computer, or let programs set them.
#[cfg(target_os = "linux")]
fn has_good_times(file: &File) -> bool {
    /// ext2 to ext4, XFS, Btrfs, tmpfs, F2FS, bcachefs, ZFS, overlayfs.
    const LOCAL: [u32; 8] =
        [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0xca45_1a4e, 0x2fc1_2fc1, 0x794c_7630];
    let regular = file.metadata().is_ok_and(|meta| meta.is_file());
    // The numbers have 32 bits; the type of the field depends on the processor.
    regular && rustix::fs::fstatfs(file).is_ok_and(|system| LOCAL.contains(&(system.f_type as u32)))
}

#[cfg(not(target_os = "linux"))]
fn has_good_times(_: &File) -> bool {
    false
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Bed {
        folder: tempfile::TempDir,
        memory: Memory,
        path: PathBuf,
    }

    impl Bed {
        /// A file with the content `one`, which is known, as if it were three seconds old.
        fn new() -> Bed {
            let folder = tempfile::tempdir().unwrap();
            let (memory, path) = (Memory::new(folder.path().join("memory")), folder.path().join("file"));
            fs::write(&path, "one").unwrap();
            let bed = Bed { folder, memory, path };
            let (file, version) = bed.open();
            bed.memory.note(&later(version), &file, "first");
            bed
        }

        fn open(&self) -> (File, Version) {
            let file = File::open(&self.path).unwrap();
            let version = Version::of(&file).unwrap();
            (file, version)
        }

        fn recall(&self) -> Option<String> {
            self.memory.recall(&self.open().1)
        }

        fn entry(&self) -> PathBuf {
            self.memory.entry(&self.open().1)
        }

        /// Waits until the clock of the file system has moved on.
        fn tick(&self) {
            let before = fs::metadata(&self.path).unwrap().ctime_nsec();
            let probe = self.folder.path().join("probe");
            loop {
                fs::write(&probe, "").unwrap();
                if fs::metadata(&probe).unwrap().ctime_nsec() != before {
                    return;
                }
            }
        }
    }

    /// The same version, looked at three seconds later.
    fn later(version: Version) -> Version {
        Version { seen: version.seen + Duration::from_secs(3), ..version }
    }

    #[test]
    fn what_does_not_change_stays_known() {
        let bed = Bed::new();
        assert_eq!(bed.recall().as_deref(), Some("first"));
        assert_eq!(fs::metadata(bed.entry()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&bed.memory.folder).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_change_is_noticed_even_with_the_old_size_and_time() {
        let bed = Bed::new();
        bed.tick();
        let modified = fs::metadata(&bed.path).unwrap().modified().unwrap();
        let mut file = File::options().write(true).open(&bed.path).unwrap();
        file.write_all(b"two").unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(fs::metadata(&bed.path).unwrap().modified().unwrap(), modified);
        assert_eq!(bed.recall(), None);
    }

    #[test]
    fn other_files_at_the_same_path_are_noticed() {
        let bed = Bed::new();
        bed.tick();
        let other = bed.folder.path().join("other");
        fs::write(&other, "two").unwrap();
        File::open(&other)
            .unwrap()
            .set_modified(fs::metadata(&bed.path).unwrap().modified().unwrap())
            .unwrap();
        fs::rename(&other, &bed.path).unwrap();
        assert_eq!(bed.recall(), None);

        let bed = Bed::new();
        bed.tick();
        File::options().write(true).open(&bed.path).unwrap().set_len(2).unwrap();
        assert_eq!(bed.recall(), None);
    }

    #[test]
    fn a_file_that_has_just_changed_is_not_remembered() {
        let bed = Bed::new();
        bed.tick();
        fs::write(&bed.path, "two").unwrap();
        let (file, version) = bed.open();
        bed.memory.note(&version, &file, "second");
        assert_eq!(bed.recall(), None);
        // Nor is one that changes while it is read, or whose times lie in the future.
        bed.tick();
        fs::write(&bed.path, "six").unwrap();
        bed.memory.note(&later(version), &file, "second");
        assert_eq!(bed.recall(), None);
        let (file, version) = bed.open();
        let early = Version { seen: version.seen - Duration::from_secs(60), ..version };
        bed.memory.note(&early, &file, "third");
        assert_eq!(bed.recall(), None);
    }

    #[test]
    fn damaged_and_foreign_entries_are_replaced() {
        let bed = Bed::new();
        let good = fs::read_to_string(bed.entry()).unwrap();
        let other_boot = {
            let (_, entry) = good.split_once(' ').unwrap();
            let entry = format!("{}{}", if entry.starts_with('0') { '1' } else { '0' }, &entry[1..]);
            format!("{:016x} {entry}", xxh3_64(entry.as_bytes()))
        };
        let long = format!("{good}{}", "x".repeat(2 * ENTRY as usize));
        for damaged in
            [&good.replace("first", "other"), &good[..good.len() - 1], "", "\0\0\0", &long, &other_boot]
        {
            fs::write(bed.entry(), damaged).unwrap();
            assert_eq!(bed.recall(), None, "{damaged:?}");
        }
        fs::write(bed.entry(), [0xff; 64]).unwrap();
        assert_eq!(bed.recall(), None);
        fs::write(bed.entry(), &good).unwrap();
        assert_eq!(bed.recall().as_deref(), Some("first"));
        fs::set_permissions(bed.entry(), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(bed.recall(), None);
        let (file, version) = bed.open();
        bed.memory.note(&later(version), &file, "again");
        assert_eq!(bed.recall().as_deref(), Some("again"));
    }

    #[test]
    fn the_memory_is_bounded() {
        let bed = Bed::new();
        for number in 0..limits::REMEMBERED_FILES {
            fs::write(bed.memory.folder.join(format!("old-{number}")), "").unwrap();
        }
        bed.tick();
        fs::write(&bed.path, "two").unwrap();
        let (file, version) = bed.open();
        bed.memory.note(&later(version), &file, "second");
        assert_eq!(bed.recall().as_deref(), Some("second"));
        assert_eq!(fs::read_dir(&bed.memory.folder).unwrap().count(), limits::REMEMBERED_FILES / 2 + 1);
    }

    #[test]
    fn pipes_and_devices_are_not_remembered() {
        let bed = Bed::new();
        let device = File::open("/dev/null").unwrap();
        let version = later(Version::of(&device).unwrap());
        bed.memory.note(&version, &device, "nothing");
        assert_eq!(bed.memory.recall(&version), None);
    }
}
