//! Every number that was chosen, each with its reason, and the limits that travel with a call.
//!
//! In: what a person, a caller and a node each allow. Out: the narrowest of them. Must not know:
//! how a limit is enforced (`engine/`).

use std::time::Duration;

/// Memory of one instance, all its memories and tables together, unless a person says otherwise:
/// a newcomer's module never meets it, a hostile one cannot take the machine.
pub const MEMORY: u64 = 256 << 20;
/// What one call may write to its standard output and error together.
pub const OUTPUT: u64 = 16 << 20;
/// Output that waits for its reader; more makes the guest wait. One pipe buffer of Linux.
pub const OUTPUT_IN_FLIGHT: usize = 64 << 10;
/// Standard input that is asked of its source at once.
pub const INPUT_CHUNK: usize = 64 << 10;
/// How long a call from a peer may take where neither side says otherwise.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(300);
/// Elements of one table: C# in debug mode has over 10,000, Python components about 6,000.
pub const TABLE_ELEMENTS: usize = 100_000;
/// Core instances, memories and tables of one guest: Python components have about 20.
pub const INSTANCES: usize = 256;
pub const MEMORIES: usize = 64;
pub const TABLES: usize = 256;
/// Bytes of the engine's own data about one guest of a node, such as its globals (16 bytes each) and the functions
/// that it exports or puts into tables.
pub const BOOKKEEPING: u64 = 4 << 20;
/// What wasmtime may add to that: a fixed part for each of [`INSTANCES`], a few hundred bytes in version 48.
pub const BOOKKEEPING_MARGIN: usize = INSTANCES * (4 << 10);
/// Live instances of one owner: this node's people, or one session.
pub const INSTANCES_PER_OWNER: usize = 64;
/// Resource handles that a component may hold at once.
pub const HANDLES: usize = 10_000;
/// Host memory, in bytes, that lifting one call's results (or one host call's arguments) may take;
/// above the largest value that may cross ([`VALUE_BYTES`]), below what would hurt.
pub const HOSTCALL_FUEL: usize = 160 << 20;
/// Wasm stack of one guest, wasmtime's own default.
pub const WASM_STACK: usize = 512 << 10;
/// Host stack that a guest runs on: the wasm stack and room for host calls above it.
pub const FIBRE_STACK: usize = 2 << 20;
/// The epoch ticker's period: how long a busy guest runs before it is asked to yield. Stopping one
/// takes at most this; 3 % on a tight loop.
pub const TICK: Duration = Duration::from_millis(5);
/// Ticks go on this long after the last call, then the ticker sleeps: an idle node wakes nobody.
pub const TICKER_LINGER: Duration = Duration::from_secs(2);
/// Core instances that one process keeps room for (address space, not memory).
pub const POOL: u32 = 1000;
/// Memory of a pooled slot that stays resident between calls: 36 → 27 µs a call; 1 MiB was worse.
pub const KEEP_RESIDENT: usize = 64 << 10;
/// The largest memory of a pooled slot: what a 32-bit memory can have.
pub const POOL_MEMORY: usize = 4 << 30;
/// Loaded modules that a process keeps ready.
pub const LOADED_MODULES: usize = 128;
/// Folders that a guest of preview 1 lists at once, as it is told of them: some 300,000 files.
pub const LISTINGS: usize = 16 << 20;
/// The compiler child's memory: a 20 MB component takes under 1 GiB.
pub const COMPILER_MEMORY: u64 = 4 << 30;
/// The compiler child's processor seconds: a 20 MB component takes 12 on a slow machine.
pub const COMPILER_CPU_SECONDS: u64 = 300;
/// The compiler child's time by the clock.
pub const COMPILER_WALL: Duration = Duration::from_secs(300);
/// Files and connections that a process must be allowed to hold open. A node alone with its gpmd has some
/// twenty, its compiler and each connected node a few more.
pub const DESCRIPTORS: u64 = 48;
/// How long compiled code is kept that nobody uses: a new version of the program, or of a module, leaves
/// the old one's behind.
pub const COMPILED_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Compiled code of one home, together: a hundred Python components.
pub const COMPILED_BYTES: u64 = 4 << 30;
/// The largest module file: it is validated and compiled in memory. The largest seen in use (a Python interpreter
/// with its libraries) are about 50 MB.
pub const MODULE_BYTES: u64 = 256 << 20;
/// A function whose runs stay below this is polled where its call arrived: a hop to another thread
/// costs 14–33 µs.
pub const INLINE_BELOW: Duration = Duration::from_micros(60);
/// How deep calls may nest in each other's arguments in one line: as deep as values may in WAVE. The parser
/// recurses; a level takes under 1 KiB of stack, of the 512 KiB or more that a host call has.
pub const NESTED_CALLS: usize = 100;
/// How deep calls may nest across nodes.
pub const CALL_DEPTH: usize = 32;
/// Calls from one peer that may be under way at once; more get `OVERLOADED`.
pub const CALLS_PER_SESSION: usize = 1024;
/// The largest arguments or result that cross to another node: half of what a guest can hold, unless a
/// person gives it more.
pub const VALUE_BYTES: u64 = 128 << 20;
/// Values from this size cross on the bulk connection: a message of it holds up the calls behind it for
/// about 0.3 ms.
pub const BULK_FROM: u64 = 256 << 10;
/// Lists of numbers and texts from this size cross as they lie in memory, uncopied.
pub const PART_FROM: usize = 64 << 10;
/// Such parts of one value; what is beyond stays in its shape.
pub const PARTS: usize = 1024;
/// Bytes that one side of a session may have coming at once.
pub const ARRIVING: u64 = 4 * VALUE_BYTES;
/// Bytes of results that one side of a session keeps for the other to fetch.
pub const KEPT: u64 = 4 * VALUE_BYTES;
/// How long a result waits to be fetched.
pub const KEPT_FOR: Duration = Duration::from_secs(30);
/// The arguments of a main, together: what Linux passes to a program at the most.
pub const ARGV_BYTES: u64 = 2 << 20;

/// What a call may use. `None` does not narrow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub timeout: Option<Duration>,
    /// Bytes of all memories and tables together.
    pub memory: Option<u64>,
    /// Bytes of standard output and error together.
    pub output: Option<u64>,
    /// Wasm instructions, roughly.
    pub fuel: Option<u64>,
}

impl Limits {
    /// The narrower of the two, limit by limit.
    #[must_use]
    pub fn narrow(self, other: Limits) -> Limits {
        fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }
        }
        Limits {
            timeout: least(self.timeout, other.timeout),
            memory: least(self.memory, other.memory),
            output: least(self.output, other.output),
            fuel: least(self.fuel, other.fuel),
        }
    }
}

/// A number of bytes as a person reads it: `16.0 MiB`.
pub fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).display().iec().to_string()
}

/// What was asked and what is the most, in bytes, so written that they differ.
pub fn beyond(asked: u64, most: u64) -> (String, String) {
    let (asked_shown, most_shown) = (bytes(asked), bytes(most));
    match asked_shown == most_shown {
        true => (format!("{asked} bytes"), format!("{most_shown} ({most} bytes)")),
        false => (asked_shown, most_shown),
    }
}

/// The limits of a call from a peer, whatever else narrows them.
pub fn of_peers() -> Limits {
    Limits { timeout: Some(PEER_TIMEOUT), ..Limits::default() }
}

/// Compilers that run at once in one home: one per processor, whoever asks.
pub fn compilers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Compilers that run at once for one peer: others of the home are to have their turn too.
pub fn compilers_per_peer() -> usize {
    (compilers() / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_too_many_is_seen() {
        assert_eq!(beyond(2 << 20, 1 << 20), ("2.0 MiB".into(), "1.0 MiB".into()));
        let (asked, most) = beyond((128 << 20) + 1, 128 << 20);
        assert_eq!((asked.as_str(), most.as_str()), ("134217729 bytes", "128.0 MiB (134217728 bytes)"));
    }

    #[test]
    fn narrowing_never_widens() {
        let node = Limits { timeout: Some(Duration::from_secs(5)), memory: Some(100), ..Limits::default() };
        let call = Limits { timeout: None, memory: Some(200), output: Some(7), fuel: None };
        let both = node.narrow(call);
        assert_eq!(both.timeout, node.timeout);
        assert_eq!((both.memory, both.output, both.fuel), (Some(100), Some(7), None));
    }
}
