//! Processes with a deadline, and what the operating system reports about them.
//!
//! In: a command. Out: its exit status and output; a guard that ends it. Must not know: `gvm`, `gpmd`.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The time after which a test gives up waiting.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Clock ticks per second in which Linux reports processor time to programs; the same on every machine.
const TICKS: u64 = 100;

/// The interval at which a condition is checked.
const LOOK: Duration = Duration::from_millis(2);

/// Waits until the condition holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `look` returns a value, and returns that value.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} until {what}");
        std::thread::sleep(LOOK);
    }
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Ended {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Asserts that the process ended with status 0; returns its standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "stdout: {}\nstderr: {}", self.out(), self.err());
        self.out()
    }

    /// Asserts that the process ended with status 1 and this error code; returns its standard error.
    #[track_caller]
    pub fn fails(self, code: &str) -> String {
        let err = self.err();
        let coded = err.lines().any(|line| line.starts_with(&format!("{code}: ")));
        assert!(
            self.status == Some(1) && coded,
            "expected {code}, status 1; {:?}\nstdout: {}\nstderr: {err}",
            self.status,
            self.out()
        );
        err
    }

    /// Returns the lines of standard output as JSON, without the events.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let mut lines = self.json_lines();
        lines.retain(|line| line.get("event").is_none());
        lines
    }

    /// Returns the lines of standard output as JSON.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let text = self.out();
        let parsed = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        parsed.unwrap_or_else(|error| panic!("{error}\nstdout: {text}\nstderr: {}", self.err()))
    }
}

/// A running process; dropping it kills the process. Standard output and error are read as they arrive.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
}

struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn new(from: Option<impl Read + Send + 'static>) -> Collected {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let to = bytes.clone();
        let reader = from.map(|mut from| {
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    to.lock().unwrap().extend_from_slice(&buffer[..count]);
                }
            })
        });
        Collected { bytes, reader }
    }

    fn now(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn end(&mut self) -> Vec<u8> {
        self.reader.take().into_iter().for_each(|reader| reader.join().unwrap());
        self.now()
    }
}

impl Running {
    /// Starts the command with pipes for all three streams.
    pub fn start(command: &mut Command) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::start_as_is(command)
    }

    /// Starts the command with the streams that it already has.
    pub fn start_as_is(command: &mut Command) -> Running {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        let stdout = Collected::new(child.stdout.take());
        let stderr = Collected::new(child.stderr.take());
        Running { child, stdin, stdout, stderr }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Returns what the process has written to standard output so far.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout.now()).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr.now()).into_owned()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).unwrap();
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    #[track_caller]
    pub fn wait_for_out(&self, text: &str) {
        let started = Instant::now();
        while !self.out().contains(text) {
            let late = started.elapsed() > DEADLINE;
            assert!(!late, "no {text:?} in the output\nstdout: {}\nstderr: {}", self.out(), self.err());
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until the process ends.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if started.elapsed() > DEADLINE {
                panic!("the process does not end\nstdout: {}\nstderr: {}", self.out(), self.err());
            }
            std::thread::sleep(LOOK);
        };
        let status = status.code().or(status.signal().map(|signal| 128 + signal));
        Ended { status, stdout: self.stdout.end(), stderr: self.stderr.end() }
    }

    /// Closes standard input and waits until the process ends.
    #[track_caller]
    pub fn finish(mut self) -> Ended {
        self.close_stdin();
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Returns the processor time that the process has used.
pub fn cpu_time(pid: Pid) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    // After the name in parentheses: field 1 is the state, fields 12 and 13 are user and system time.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Returns the peak resident memory of the process, in bytes.
pub fn peak_memory(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Returns the resident memory of the process that no file backs, in bytes.
pub fn anonymous_memory(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Returns the number of files and connections that the process has open.
pub fn descriptors(pid: Pid) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap().count()
}

/// Returns the TCP ports on which the process listens.
pub fn listening(pid: Pid) -> Vec<u16> {
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let targets = std::fs::read_dir(format!("{process}/fd")).unwrap().flatten();
    let sockets: Vec<String> = targets
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("{process}/net/tcp")).unwrap();
    let port = |line: &str| {
        // Columns, from proc(5): 1 is the local address, 3 the state (0A is listening), 9 the inode.
        let columns: Vec<&str> = line.split_whitespace().collect();
        let ours =
            columns.get(3) == Some(&"0A") && sockets.iter().any(|inode| columns.get(9) == Some(&&**inode));
        ours.then(|| u16::from_str_radix(columns[1].rsplit(':').next().unwrap(), 16).unwrap())
    };
    table.lines().filter_map(port).collect()
}

/// Waits until the process uses no processor time for a while, because its work has ended or is blocked.
pub fn wait_until_idle(pid: Pid) {
    let mut last = (cpu_time(pid), Instant::now());
    wait_until("the process is idle", || {
        let now = cpu_time(pid);
        if now > last.0 + Duration::from_millis(10) {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(150)
    });
}
