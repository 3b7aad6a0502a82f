//! What the system reports about processes, this one and others.
//!
//! In: process ids, paths, ports, `/proc`. Out: the state and name of a process, the process that holds a lock or
//! listens on a port, the numbers of open files. Must not know: nodes, gpmd. On systems without `/proc`
//! (it is Linux's), most answers are `None` or empty.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Pid, Resource, Rlimit, getpid, getrlimit, setrlimit, test_kill_process};

use crate::base::error::{Code, Error, Result};
use crate::base::limits;

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Runs,
    /// A signal suspended it: Ctrl-Z, SIGSTOP.
    Stopped,
    /// A debugger stopped it.
    Traced,
}

/// Returns the state of a process; `None` if there is no such process, or it has ended and is a zombie.
pub fn state(pid: u32) -> Option<State> {
    let id = Pid::from_raw(i32::try_from(pid).ok()?)?;
    match stat(pid).and_then(|stat| stat.chars().next()) {
        Some('Z' | 'X') => None,
        Some('T') => Some(State::Stopped),
        Some('t') => Some(State::Traced),
        Some(_) => Some(State::Runs),
        // Without `/proc`: a process exists if it can be sent signals.
        None => test_kill_process(id).is_ok().then_some(State::Runs),
    }
}

/// Returns whether a process can gain no privileges by starting programs (`PR_SET_NO_NEW_PRIVS`), which its children inherit.
pub fn no_new_privileges(pid: u32) -> Option<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| Some(line.strip_prefix("NoNewPrivs:")?.trim() == "1"))
}

/// Returns whether a process other than this one has this id.
pub fn lives(pid: u32) -> bool {
    u32::try_from(getpid().as_raw_nonzero().get()).is_ok_and(|own| own != pid) && state(pid).is_some()
}

/// Describes a process for a message: its id, and its name if that is known.
pub fn called(pid: u32) -> String {
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim().escape_default()),
        Err(_) => format!("process {pid}"),
    }
}

/// Returns how many files and connections a process has open, and how many it may open.
pub fn open_files(pid: u32) -> Option<(u64, u64)> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    // Max open files            1024                 1048576              files
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some((u64::try_from(open).ok()?, most.split_whitespace().next()?.parse().ok()?))
}

/// Returns the command line of a process.
pub fn words(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Returns the children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let parent = |id: &u32| stat(*id).and_then(|stat| stat.split(' ').nth(1)?.parse::<u32>().ok());
    all().filter(|id| parent(id) == Some(pid)).collect()
}

/// Returns the process that holds the lock (`flock`) of a file.
pub fn holder(path: &Path) -> Option<u32> {
    let meta = fs::metadata(path).ok()?;
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let file = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // 1: FLOCK  ADVISORY  WRITE 4711 00:2f:1234 0 EOF
    let held = locks.lines().filter(|line| !line.contains("->")).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let kind = words.next()?;
        let pid = words.nth(2)?.parse().ok()?;
        (kind == "FLOCK" && words.next()? == file).then_some(pid)
    });
    held.filter(|pid| *pid != 0)
}

/// Returns the process that listens on a TCP port of this device.
pub fn listening_at(port: u16) -> Option<u32> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|path| fs::read_to_string(path).ok());
    let own = format!(":{port:04X}");
    //  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 12345 …
    let inodes: Vec<String> = tables
        .flat_map(|table| {
            let listens = table.lines().filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let ours = words.get(1)?.ends_with(&own) && *words.get(3)? == "0A";
                ours.then(|| format!("socket:[{}]", words.get(9).unwrap_or(&"")))
            });
            listens.collect::<Vec<_>>()
        })
        .collect();
    let holds = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|target| target.to_str().is_some_and(|target| inodes.iter().any(|inode| inode == target)))
    };
    if inodes.is_empty() { None } else { all().find(holds) }
}

/// Returns the ids of all processes.
fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns the fields after the name in `/proc/PID/stat`: the state, the parent, and more.
fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.to_owned())
}

/// Lets this process open as many files and connections as its hard limit permits, and checks that these are enough.
/// The soft limit is usually 1024, for programs that cannot handle larger numbers of files; each connected node takes
/// a few. The check comes first because a later failure to open a file often has no clear message.
///
/// # Errors
/// `OVERLOADED` with both numbers and a command that raises the limit.
pub fn enough_descriptors() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If the system refuses, the soft limit stays as it is, and is checked.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let Some(most) = getrlimit(Resource::Nofile).current else { return Ok(()) };
    if most >= limits::DESCRIPTORS {
        return Ok(());
    }
    let least = limits::DESCRIPTORS;
    let message =
        format!("this process may open only {most} files and connections, and needs at least {least}");
    Err(Error::new(Code::Overloaded, message).with_command("ulimit -n 1024"))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn processes_are_reported() {
        let own = std::process::id();
        assert_eq!(state(own), Some(State::Runs));
        assert!(!lives(own), "this process does not count");
        assert!(open_files(own).is_some_and(|(open, most)| open > 2 && open < most));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(lives(child.id()) && children(own).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!lives(child.id()));
        assert_eq!(state(u32::MAX), None);
    }

    #[test]
    fn the_process_that_listens_is_reported() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listening_at(port), Some(std::process::id()));
        drop(listener);
        assert_eq!(listening_at(port), None);
    }

    #[test]
    fn the_holder_of_a_lock_is_reported() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(holder(file.path()), None);
        file.as_file().lock().unwrap();
        assert_eq!(holder(file.path()), Some(std::process::id()));
    }
}
