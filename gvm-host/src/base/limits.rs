//! The limits of the product, each with its reason, and the limits that a call carries.
//!
//! In: what a person, a caller and a node each allow. Out: the lowest of them. Must not know:
//! how a limit is enforced.

use std::sync::OnceLock;
use std::time::Duration;

/// Default for the memory of one instance, all its memories and tables together: usual modules stay below it, and
/// a hostile one cannot exhaust the machine.
pub const MEMORY: u64 = 256 << 20;
/// Default for what one call may write, in bytes of standard output and error together.
pub const OUTPUT: u64 = 16 << 20;
/// Output, in bytes, that waits for its reader; a guest that writes more has to wait. The size of a pipe in
/// Linux.
pub const OUTPUT_IN_FLIGHT: usize = 64 << 10;
/// Standard input, in bytes, that is requested from its source at a time.
pub const INPUT_CHUNK: usize = 64 << 10;
/// How long a call from a peer may take if neither side sets a limit.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(300);
/// How long another node may take to let an instance go: it runs nothing for that, and one that is silent is
/// found out only a little later.
pub const DROPPING: Duration = Duration::from_secs(5);
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
/// Live instances of one session of a peer.
pub const INSTANCES_PER_SESSION: usize = 64;
/// Live instances of the users of one node: a Rust component with its state takes about 50 KiB, so this many take
/// 500 MiB. The system may allow fewer ([`live_pool`]).
pub const INSTANCES_OF_USERS: usize = 10_000;
/// Resource handles that a component may hold at once.
pub const HANDLES: usize = 10_000;
/// Files, folders, sockets, streams and timers of the host that a guest may hold at once: about as many files as Linux
/// lets a program open by default. The node's other guests need descriptors too.
pub const HOST_RESOURCES: usize = 1000;
/// Host memory, in bytes, that the results of one call, or the arguments of one host call, may take: more than
/// the largest value between nodes ([`VALUE_BYTES`]), and little enough for one process.
pub const HOSTCALL_FUEL: usize = 160 << 20;
/// Wasm stack of one guest, wasmtime's own default.
pub const WASM_STACK: usize = 512 << 10;
/// Host stack of a guest: the wasm stack and space for host calls above it.
pub const FIBRE_STACK: usize = 2 << 20;
/// The period of the epoch ticker: how long a busy guest runs before it yields. To stop a guest takes at most
/// this long. It costs a tight loop 3 %.
pub const TICK: Duration = Duration::from_millis(5);
/// How long the ticker runs after the last call. Then it sleeps, so that an idle node uses no processor time.
pub const TICKER_LINGER: Duration = Duration::from_secs(2);
/// Calls on fresh instances that one process runs at the same time: it reserves address space, not memory, for so many
/// instances. Their stacks need two mappings each from the start, which takes 2 ms.
pub const POOL: u32 = 1000;
/// Calls on fresh instances that run at the same time for all peers of a node together. What is left of [`POOL`] by these and by
/// [`CALLS_OF_PEERS_WITH_FEW`] is for its users.
pub const CALLS_OF_PEERS: usize = POOL as usize * 3 / 4;
/// Such calls of one peer, as many as Python makes at once. More of them wait for their turn, up to [`CALLS_PER_SESSION`].
pub const CALLS_OF_PEER: usize = POOL as usize / 2;
/// Such calls in addition, for peers that have at most [`FEW_CALLS`]: a few greedy peers do not keep the others out.
pub const CALLS_OF_PEERS_WITH_FEW: usize = POOL as usize / 8;
pub const FEW_CALLS: usize = 4;
/// The most live instances for which one process reserves address space, if the system allows it: those of the users
/// of a node, and those of 35 sessions.
pub const LIVE_POOL: u32 = INSTANCES_OF_USERS as u32 + 35 * INSTANCES_PER_SESSION as u32;
/// Mappings of a live instance with one memory: two of its stack, and four of its memory (before, in and after the
/// module's data, and the unused rest).
pub const LIVE_MAPPINGS: u64 = 6;
/// Mappings of a process that live instances leave for everything else: the stacks of [`POOL`], some hundred calls on
/// fresh instances, compiled code, libraries, threads.
pub const OTHER_MAPPINGS: u64 = 5_000;
/// Mappings that Linux allows a process by default (`vm.max_map_count`).
pub const MAPPINGS: u64 = 65_530;
/// Memory of a pooled slot that stays resident between calls, and is cleared in full, where the kernel cannot tell
/// what a guest has written: a call takes 15 µs and not 19 µs; with 1 MiB it takes 29 µs.
pub const KEEP_RESIDENT: usize = 64 << 10;
/// Memory of a pooled slot that stays resident between calls where the kernel tells what a guest has written
/// (`PAGEMAP_SCAN`): a call takes 9 µs, with 16 KiB as with 1 MiB, because only what was written is cleared. The 100
/// idle slots that wasmtime keeps for a module then hold at most 50 MiB.
pub const KEEP_WRITTEN: usize = 512 << 10;
/// The largest memory of a pooled slot: the maximum of a 32-bit memory.
pub const POOL_MEMORY: usize = 4 << 30;
/// Loaded modules that a process keeps in memory.
pub const LOADED_MODULES: usize = 128;
/// Bytes of folder listings that a guest of WASI preview 1 may hold at the same time: about 300,000 files.
pub const LISTINGS: usize = 16 << 20;
/// Random bytes of one request of a guest.
pub const RANDOM_BYTES: u64 = 64 << 20;
/// Memory of the compiler process: a 20 MB component takes under 1 GiB.
pub const COMPILER_MEMORY: u64 = 4 << 30;
/// Processor seconds of the compiler process: a 20 MB component takes 12 on a slow machine.
pub const COMPILER_CPU_SECONDS: u64 = 300;
/// Wall-clock time of the compiler process.
pub const COMPILER_WALL: Duration = Duration::from_secs(300);
/// Files and connections that a process must be allowed to open. A node with a gpmd has about twenty open, and a
/// few more for its compiler and for each connected node.
pub const DESCRIPTORS: u64 = 48;
/// How long unused compiled code is kept. A new version of GVM, or of a module, leaves the old code behind.
pub const COMPILED_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// All compiled code of one home: enough for a hundred Python components.
pub const COMPILED_BYTES: u64 = 4 << 30;
/// Files of which a home remembers that they have not changed: more than the modules that a person runs by their paths. An
/// entry takes a block of the disk.
pub const REMEMBERED_FILES: usize = 1024;
/// The largest module file: it is validated and compiled in memory. The largest seen in use (a Python interpreter
/// with its libraries) are about 50 MB.
pub const MODULE_BYTES: u64 = 256 << 20;
/// The most bytes of modules of other devices that a home keeps: some dozens of large modules.
pub const FETCHED_BYTES: u64 = 1 << 30;
/// A function that usually runs shorter than this is polled on the thread where its call arrived, because two switches
/// to another thread cost 30–150 µs. Other calls on the same connection wait no longer than that.
pub const INLINE_BELOW: Duration = Duration::from_micros(150);
/// How long a thread waits for the next call or outcome before it sleeps: about what it takes to wake a processor.
pub const SPIN: Duration = Duration::from_micros(50);
/// How deep calls may nest as arguments of calls in one line: the same depth as values in WAVE. The parser
/// recurses; a level takes under 1 KiB of stack, and a host call has 512 KiB or more.
pub const NESTED_CALLS: usize = 100;
/// How deep calls may nest across nodes.
pub const CALL_DEPTH: usize = 32;
/// Calls from one peer that may run at the same time; further calls fail with `OVERLOADED`.
pub const CALLS_PER_SESSION: usize = 1024;
/// Channels of one session: one for each thread of the other node that waits for its calls, and one for all others.
/// Beyond it, calls share a channel.
pub const CHANNELS_PER_SESSION: usize = 64;
/// The largest arguments or result between nodes: half of a guest's default memory.
pub const VALUE_BYTES: u64 = 128 << 20;
/// Values from this size use the bulk connection: a message of this size delays the calls behind it by
/// about 0.3 ms.
pub const BULK_FROM: u64 = 256 << 10;
/// Lists of numbers and strings from this size are sent from memory without a copy, as parts of a value.
pub const PART_FROM: usize = 64 << 10;
/// Parts of one value. Further lists and strings stay in its shape.
pub const PARTS: usize = 1024;
/// Bytes of large values that one side of a session may receive at the same time.
pub const ARRIVING: u64 = 4 * VALUE_BYTES;
/// Bytes of results that one side of a session keeps until the other side fetches them.
pub const KEPT: u64 = 4 * VALUE_BYTES;
/// How long a result is kept for the other side to fetch.
pub const KEPT_FOR: Duration = Duration::from_secs(30);
/// Requests that one HTTP server handles at the same time, each in an instance of its own. More of them wait for their turn.
/// Half of [`POOL`], so that calls find room.
pub const HTTP_REQUESTS: usize = POOL as usize / 2;
/// Connections of one HTTP server. An idle one takes about 10 KiB. More of them wait until others end.
pub const HTTP_CONNECTIONS: usize = 16_384;
/// How long a client may take to send the headers of its next request, and so how long a connection may be idle.
pub const HTTP_HEADER_TIME: Duration = Duration::from_secs(15);
/// Bytes of the headers of a request or response, and of each buffer of a connection: the default of other servers is 8 to
/// 64 KiB.
pub const HTTP_HEADER_BYTES: usize = 64 << 10;
/// Headers of a request or response. Browsers send about 20.
pub const HTTP_HEADERS: usize = 100;
/// How long requests may still run after an HTTP server was told to end.
pub const HTTP_GRACE: Duration = Duration::from_secs(5);
/// How long an instance that is reused waits for its next request.
pub const HTTP_IDLE: Duration = Duration::from_secs(10);
/// How often an HTTP server looks for idle instances, and a connection for a client that does not read.
pub const HTTP_LOOK: Duration = Duration::from_secs(2);
/// Pieces of output of requests that wait to be shown.
pub const HTTP_OUTPUT: usize = 64;
/// Bytes of a key, or of the name of a bucket, in a store of keys and values.
pub const KEYVALUE_KEY: u64 = 1 << 10;
/// Bytes of a value.
pub const KEYVALUE_VALUE: u64 = 1 << 20;
/// Keys of one store: the store of one module.
pub const KEYVALUE_KEYS: u64 = 1_000_000;
/// Bytes of all keys and values of one store.
pub const KEYVALUE_BYTES: u64 = 256 << 20;
/// Bytes of all values of one answer.
pub const KEYVALUE_BATCH: u64 = 32 << 20;
/// Keys of one answer.
pub const KEYVALUE_PAGE: usize = 1000;
/// Stores that a process keeps open. Each has three files.
pub const KEYVALUE_OPEN: usize = 32;
/// How long a guest waits for other processes that use the same store. A change takes about a millisecond.
pub const KEYVALUE_WAIT: Duration = Duration::from_secs(5);
/// The log of a store is cut to this size, in bytes, after its content has been written to the store.
pub const KEYVALUE_LOG: i64 = 4 << 20;
/// The largest file of certificate authorities. Those of all browsers together take 250 KiB.
pub const AUTHORITIES: u64 = 4 << 20;
/// All arguments of a main together: the most that Linux passes to a program.
pub const ARGV_BYTES: u64 = 2 << 20;

/// What a call may use. `None` sets no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub timeout: Option<Duration>,
    /// In bytes: all memories and tables together.
    pub memory: Option<u64>,
    /// In bytes: standard output and error together.
    pub output: Option<u64>,
    /// In units of wasmtime's fuel: about one per wasm instruction.
    pub fuel: Option<u64>,
}

impl Limits {
    /// Returns the lower of each pair of limits.
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

/// Formats a number of bytes for a person: `16.0 MiB`.
pub fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).display().iec().to_string()
}

/// Formats a size and the limit that it exceeds, so that the two texts differ.
pub fn beyond(asked: u64, most: u64) -> (String, String) {
    let (asked_shown, most_shown) = (bytes(asked), bytes(most));
    match asked_shown == most_shown {
        true => (format!("{asked} bytes"), format!("{most_shown} ({most} bytes)")),
        false => (asked_shown, most_shown),
    }
}

/// Returns the default limits of a call from a peer.
pub fn of_peers() -> Limits {
    Limits { timeout: Some(PEER_TIMEOUT), ..Limits::default() }
}

/// Returns how many compilers may run at the same time in one home: one per processor.
pub fn compilers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns for how many live instances this process reserves address space: [`LIVE_POOL`], or fewer if the system does
/// not allow so many mappings. Linux allows 65,530 by default, which are enough for 10,088 instances.
pub fn live_pool() -> u32 {
    let allowed = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    live_pool_with(allowed.ok().and_then(|allowed| allowed.trim().parse().ok()).unwrap_or(MAPPINGS))
}

/// Returns how many live instances all peers of a node together may have: those of 35 sessions, but never more than half of
/// all, so that the users of the node have some.
pub fn live_of_peers() -> usize {
    (35 * INSTANCES_PER_SESSION).min(live_pool() as usize / 2)
}

fn live_pool_with(mappings: u64) -> u32 {
    let most = mappings.saturating_sub(OTHER_MAPPINGS) / LIVE_MAPPINGS;
    // A session gets its instances in any case; on such a system they may fail one by one.
    most.clamp(INSTANCES_PER_SESSION as u64, u64::from(LIVE_POOL)) as u32
}

/// Returns how many resources of the host a guest may hold: [`HOST_RESOURCES`], or a quarter of the descriptors of this
/// process if these are fewer.
pub fn host_resources() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        host_resources_with(descriptors.unwrap_or(u64::MAX))
    })
}

fn host_resources_with(descriptors: u64) -> usize {
    // A guest needs some in any case, for its streams and granted folders.
    (descriptors / 4).clamp(DESCRIPTORS, HOST_RESOURCES as u64) as usize
}

/// Returns how many compilers may run at the same time for one peer: half of all, so that other callers get some.
pub fn compilers_per_peer() -> usize {
    (compilers() / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_differ_by_one_byte_look_different() {
        assert_eq!(beyond(2 << 20, 1 << 20), ("2.0 MiB".into(), "1.0 MiB".into()));
        let (asked, most) = beyond((128 << 20) + 1, 128 << 20);
        assert_eq!((asked.as_str(), most.as_str()), ("134217729 bytes", "128.0 MiB (134217728 bytes)"));
    }

    #[test]
    fn a_guest_leaves_descriptors_to_others() {
        assert_eq!(host_resources_with(u64::MAX), 1000);
        assert_eq!(host_resources_with(1024), 256);
        assert_eq!(host_resources_with(48), 48);
    }

    #[test]
    fn live_instances_fit_into_the_mappings_of_the_system() {
        assert_eq!(live_pool_with(MAPPINGS), 10_088);
        assert!(live_pool_with(MAPPINGS) as usize >= INSTANCES_OF_USERS);
        assert_eq!(live_pool_with(0), 64);
        assert_eq!(live_pool_with(8_000), 500);
        assert_eq!(live_pool_with(1 << 40), LIVE_POOL);
    }

    #[test]
    fn narrowing_keeps_the_lower_limits() {
        let node = Limits { timeout: Some(Duration::from_secs(5)), memory: Some(100), ..Limits::default() };
        let call = Limits { timeout: None, memory: Some(200), output: Some(7), fuel: None };
        let both = node.narrow(call);
        assert_eq!(both.timeout, node.timeout);
        assert_eq!((both.memory, both.output, both.fuel), (Some(100), Some(7), None));
    }
}
