//! Finds out which signals the parent process set to be ignored, as `nohup` and shells do.
//!
//! In: the number of a signal. Out: whether to leave it alone. Must not know: how programs handle signals.

use std::io::Read;
use std::sync::OnceLock;

/// Returns whether the process ignored this signal when this function was called first, which must be before the
/// process catches signals. False if the system does not tell.
pub fn is_ignored(signal: i32) -> bool {
    static MASK: OnceLock<u64> = OnceLock::new();
    let mask = *MASK.get_or_init(|| {
        // One read gets all of it; the system says that the file is empty.
        let mut status = String::with_capacity(4096);
        let read =
            std::fs::File::open("/proc/self/status").and_then(|mut file| file.read_to_string(&mut status));
        if read.is_err() {
            return 0;
        }
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    });
    u32::try_from(signal - 1).is_ok_and(|bit| bit < u64::BITS && mask >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn rust_ignores_broken_pipes_and_nothing_else() {
        let pipe = rustix::process::Signal::PIPE.as_raw();
        assert!(super::is_ignored(pipe) || !cfg!(target_os = "linux"));
        assert!(!super::is_ignored(rustix::process::Signal::SEGV.as_raw()));
        assert!(!super::is_ignored(0) && !super::is_ignored(-1) && !super::is_ignored(1000));
    }
}
