//! Standard input, output and error of this process, and whether all that was written arrived.
//!
//! In: bytes to write; which streams were closed before the program began. Out: bytes that were read,
//! and the error to leave with where output was lost. The one place that reads from and writes to these
//! streams, but for the line editor. Must not know: what is written.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use gvm_host::Stream;
use gvm_host::{Code, Error};

/// The status of a program that a closed pipe ends: 128 and the number of SIGPIPE.
const CUT: i32 = 141;

/// How soon a stream that another program made non-blocking is tried again.
const AGAIN: Duration = Duration::from_millis(5);

/// The first failure of standard output. What was written after it is lost as well.
static LOST: OnceLock<Errno> = OnceLock::new();

/// The streams, as bits, that were closed before the program began. The standard library has opened
/// `/dev/null` in their place since.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// One writer of each stream at a time, so that lines stay whole. A reader that has stopped holds up its own
/// stream alone.
static WRITING: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];

/// Says that this descriptor (0, 1 or 2) was closed before the program began.
pub fn was_closed(descriptor: u8) {
    CLOSED.fetch_or(1 << descriptor, Ordering::Relaxed);
}

fn closed(descriptor: u8) -> bool {
    CLOSED.load(Ordering::Relaxed) & (1 << descriptor) != 0
}

/// Writes all of it. Once standard output has failed it fails at once.
///
/// # Errors
/// The system's; [`lost`] tells the first one of standard output.
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

/// Reads what there is of standard input, waiting for at least one byte; none mean the end.
///
/// # Errors
/// The system's.
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

/// Takes note of how another writer (clap's) fared with standard output.
pub fn check(written: io::Result<()>) {
    let failed = match written {
        _ if closed(1) => Errno::BADF,
        Ok(()) => return,
        Err(error) => error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error),
    };
    LOST.get_or_init(|| failed);
}

/// Why what was written to standard output did not all arrive, if it did not.
pub fn lost() -> Option<Error> {
    LOST.get().map(|errno| error("standard output", (*errno).into()))
}

/// The error of output that is lost. Where the reader of a pipe has gone, that is what it wanted: see
/// [`is_cut`].
pub fn error(what: &str, error: io::Error) -> Error {
    let cut = error.kind() == io::ErrorKind::BrokenPipe;
    let error = Error::output(what, error);
    if cut { error.with_exit(CUT) } else { error }
}

/// Whether the error says no more than that the reader of a pipe has gone: nobody has to be told, and the
/// status says it.
pub fn is_cut(error: &Error) -> bool {
    error.code() == Code::OutputLost && error.exit() == Some(CUT)
}

/// The status to leave with, and what is to be said first: a run whose output was lost has not succeeded.
pub fn settle(status: i32) -> (i32, Option<Error>) {
    match lost() {
        Some(error) if status == 0 => (error.exit().unwrap_or(1), Some(error).filter(|error| !is_cut(error))),
        _ => (status, None),
    }
}
