//! Whether processes and homes grow.
//!
//! In: what the system says about processes, and the files of homes, at two moments of rest; what it said about processes right
//! before they were killed. Out: lines for the table, and faults. Must not know: what the processes do.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rustix::process::Pid;

use crate::device::{Program, STAYING, World};

/// What a process may use more than before: the allocator keeps some memory, and each connected node has some descriptors.
const MEMORY: f64 = 0.25;
const MEMORY_BYTES: u64 = 12 << 20;
const DESCRIPTORS: u64 = 24;
const THREADS: u64 = 8;

/// In a short run, much happens for the first time.
const SHORT_BYTES: u64 = 64 << 20;

/// Files beside modules and compiled code: locks, sockets and what the network remembers.
const FILES: u64 = 24;

/// Lives shorter than this are not compared, because a process grows while it starts.
const AGE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Default)]
pub struct Used {
    memory: u64,
    descriptors: u64,
    threads: u64,
}

/// Everything at one moment: long lives, and the number of files in each folder of each home.
pub struct Measured {
    processes: BTreeMap<String, Used>,
    files: BTreeMap<String, u64>,
}

/// Returns what a process uses, or `None` if it has ended.
fn used(pid: Pid) -> Option<Used> {
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let descriptors = std::fs::read_dir(format!("{process}/fd")).ok()?.count() as u64;
    Some(Used { memory: number("RssAnon:")? << 10, descriptors, threads: number("Threads:")? })
}

/// Notes what a process uses before it is killed.
pub fn note(world: &World, program: &Program) {
    if program.started.elapsed() < AGE {
        return;
    }
    if let Some(used) = program.pid().and_then(used) {
        let kind = if program.node.is_some() { "nodes" } else { "gpmds" };
        world.tally.lock().unwrap().lives.entry(kind).or_default().push(used);
    }
}

pub fn measure(world: &World) -> Measured {
    let mut processes = BTreeMap::new();
    for program in world.programs.lock().unwrap().iter().filter(|program| program.spared) {
        processes.extend(program.pid().and_then(used).map(|used| (program.title(), used)));
    }
    for caller in world.callers.lock().unwrap().iter() {
        let title = format!("caller on {}", world.devices[caller.device].name);
        processes.extend(used(Pid::from_child(&caller.child)).map(|used| (title, used)));
    }
    let mut files = BTreeMap::new();
    for device in &world.devices[..STAYING] {
        count(&device.home, device.name, &mut files);
    }
    Measured { processes, files }
}

/// Counts the files of a folder and those below it.
fn count(folder: &Path, name: &str, files: &mut BTreeMap<String, u64>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            // Folders of compiled code have the hash of an engine as their name.
            true if name.ends_with("/compiled") => count(&entry.path(), name, files),
            true => count(&entry.path(), &format!("{name}/{}", entry.file_name().to_string_lossy()), files),
            false => *files.entry(name.to_owned()).or_default() += 1,
        }
    }
}

/// Compares two measurements, and the first killed lives with the last ones.
pub fn compare(world: &World, first: Measured, last: Measured, long: bool) {
    let mut lines = Vec::new();
    let mut faults = Vec::new();
    let mut compare = |title: &str, before: Used, after: Used| {
        let line = format!(
            "{title:<44} {:.1} → {:.1} MiB, {} → {} descriptors, {} → {} threads",
            before.memory as f64 / f64::from(1 << 20),
            after.memory as f64 / f64::from(1 << 20),
            before.descriptors,
            after.descriptors,
            before.threads,
            after.threads
        );
        let more = match long {
            true => (before.memory as f64 * MEMORY) as u64 + MEMORY_BYTES,
            false => SHORT_BYTES,
        };
        if after.memory > before.memory + more
            || after.descriptors > before.descriptors + DESCRIPTORS
            || after.threads > before.threads + THREADS
        {
            faults.push(format!("grows: {line}"));
        }
        lines.push(line);
    };
    for (title, before) in &first.processes {
        if let Some(after) = last.processes.get(title) {
            compare(title, *before, *after);
        }
    }
    let lives = std::mem::take(&mut world.tally.lock().unwrap().lives);
    for (kind, lives) in lives {
        let part = lives.len() / 4;
        if part >= 3 {
            let title = format!("killed {kind}, medians of {part} lives");
            compare(&title, median(&lives[..part]), median(&lives[lives.len() - part..]));
        }
    }
    for (folder, after) in last.files {
        let before = first.files.get(&folder).copied().unwrap_or_default();
        let line = format!("{folder:<44} {before} → {after} files");
        // Compiled code of removed modules stays until it is old, or there is too much of it.
        if !folder.ends_with("/compiled") && after > before + FILES {
            faults.push(format!("grows: {line}"));
        }
        lines.push(line);
    }
    let mut tally = world.tally.lock().unwrap();
    tally.measured = lines;
    faults.into_iter().for_each(|fault| tally.fault(fault));
}

fn median(lives: &[Used]) -> Used {
    let of = |part: fn(&Used) -> u64| {
        let mut values: Vec<u64> = lives.iter().map(part).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    Used {
        memory: of(|used| used.memory),
        descriptors: of(|used| used.descriptors),
        threads: of(|used| used.threads),
    }
}
