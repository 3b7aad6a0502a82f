//! Standard input, output and error of this process.
//!
//! In: bytes to write; which streams were closed when the program started. Out: bytes that were read; the
//! error to exit with if output was lost. Must not know: what is written.
//!
//! Besides this module, only the line editor reads and writes these streams, and clap, progress bars and logs
//! write to them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use gvm_host::{Code, Error, Stream};

/// The exit status of a program that is ended by a closed pipe: 128 and the number of SIGPIPE.
const CUT: i32 = 141;

/// How long to wait before the next try, on a stream that another program made non-blocking.
const AGAIN: Duration = Duration::from_millis(5);

/// The first failure of standard output. All later output is lost too.
static LOST: OnceLock<Errno> = OnceLock::new();

/// The streams that were closed when the program started, as bits. The standard library has replaced them by
/// `/dev/null`.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Allows one writer per stream at a time, so that lines are not mixed. A slow reader blocks only its own
/// stream.
static WRITING: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];

/// Records that this descriptor (0, 1 or 2) was closed when the program started.
pub fn was_closed(descriptor: u8) {
    CLOSED.fetch_or(1 << descriptor, Ordering::Relaxed);
}

fn closed(descriptor: u8) -> bool {
    CLOSED.load(Ordering::Relaxed) & (1 << descriptor) != 0
}

/// Writes all bytes. After a failure of standard output, every call for it fails.
///
/// # Errors
/// Those of the system. [`lost`] returns the first error of standard output.
pub fn write(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let _writing = WRITING[stream as usize].lock().unwrap_or_else(PoisonError::into_inner);
    match stream {
        Stream::Stdout => {
            if let Some(errno) = LOST.get() {
                return Err((*errno).into());
            }
            let written = write_all(1, io::stdout().as_fd(), bytes);
            written.map_err(|errno| (*LOST.get_or_init(|| errno)).into())
        }
        Stream::Stderr => Ok(write_all(2, io::stderr().as_fd(), bytes)?),
    }
}

/// Writes as many bytes as the stream takes without waiting for a reader, and returns their number. The error of a
/// stream that takes none is that of [`write()`].
pub fn write_now(stream: Stream, bytes: &[u8]) -> usize {
    let Ok(_writing) = WRITING[stream as usize].try_lock() else { return 0 };
    match stream {
        Stream::Stdout if LOST.get().is_none() && !closed(1) => no_wait(io::stdout().as_fd(), bytes),
        Stream::Stderr if !closed(2) => no_wait(io::stderr().as_fd(), bytes),
        _ => 0,
    }
}

#[cfg(target_os = "linux")]
fn no_wait(to: BorrowedFd<'_>, bytes: &[u8]) -> usize {
    use rustix::io::{ReadWriteFlags, pwritev2};
    /// The position of the file itself, which pipes need too.
    const HERE: u64 = u64::MAX;
    pwritev2(to, &[io::IoSlice::new(bytes)], HERE, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn no_wait(_: BorrowedFd<'_>, _: &[u8]) -> usize {
    0
}

fn write_all(descriptor: u8, to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    if closed(descriptor) {
        return Err(Errno::BADF);
    }
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(AGAIN),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Reads from standard input; waits for at least one byte. Returns 0 at the end.
///
/// # Errors
/// Those of the system.
pub fn read(into: &mut [u8]) -> io::Result<usize> {
    if closed(0) {
        return Err(Errno::BADF.into());
    }
    loop {
        match rustix::io::read(io::stdin().as_fd(), &mut *into) {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(AGAIN),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Standard input as a reader.
#[derive(Debug, Default)]
pub struct Stdin;

impl io::Read for Stdin {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        read(into)
    }
}

/// Records the result of another writer (clap) on standard output.
pub fn check(written: io::Result<()>) {
    let failed = match written {
        _ if closed(1) => Errno::BADF,
        Ok(()) => return,
        Err(error) => error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error),
    };
    LOST.get_or_init(|| failed);
}

/// Returns the first error of standard output, if there was one.
pub fn lost() -> Option<Error> {
    LOST.get().map(|errno| error("standard output", (*errno).into()))
}

/// Returns the error of lost output. If the reader closed the pipe, this is not reported: see [`is_cut`].
pub fn error(what: &str, error: io::Error) -> Error {
    let cut = error.kind() == io::ErrorKind::BrokenPipe;
    let error = Error::output(what, error);
    if cut { error.with_exit(CUT) } else { error }
}

/// Returns whether the error means only that the reader closed the pipe. Such an error is not printed; the
/// exit status tells it.
pub fn is_cut(error: &Error) -> bool {
    error.code() == Code::OutputLost && error.exit() == Some(CUT)
}

/// Returns the exit status, and the error to print before the exit: if output was lost, the program has not
/// succeeded.
pub fn settle(status: i32) -> (i32, Option<Error>) {
    match lost() {
        Some(error) if status == 0 => (error.exit().unwrap_or(1), Some(error).filter(|error| !is_cut(error))),
        _ => (status, None),
    }
}
