//! What is measured: every measure, and every row of the table with its goal.
//!
//! In: nothing. Out: two lists. A measure names a worker and the request to it; a row compares two measures. Must not
//! know: how a worker answers, how the table looks.

/// The unit of a figure. The samples of a measure are nanoseconds per call, or already in this unit where it is no time.
#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    Micros,
    Millis,
    /// Thousands of calls per second.
    Rate,
    /// Bytes per nanosecond, one way: a call carries this many bytes in each direction.
    Bandwidth(f64),
    MiB,
    KiB,
}

impl Unit {
    /// Returns whether a higher figure is better.
    pub fn rises(self) -> bool {
        matches!(self, Unit::Rate | Unit::Bandwidth(_))
    }

    /// Converts a sample.
    pub fn figure(self, sample: f64) -> f64 {
        match self {
            Unit::Micros => sample / 1e3,
            Unit::Millis => sample / 1e6,
            Unit::Rate => 1e6 / sample,
            Unit::Bandwidth(bytes) => bytes / sample * 1e3,
            Unit::MiB | Unit::KiB => sample,
        }
    }

    pub fn symbol(self) -> &'static str {
        match self {
            Unit::Micros => "µs",
            Unit::Millis => "ms",
            Unit::Rate => "k/s",
            Unit::Bandwidth(_) => "MB/s",
            Unit::MiB => "MiB",
            Unit::KiB => "KiB",
        }
    }
}

/// Something that is measured once per round.
pub struct Measure {
    pub name: &'static str,
    pub worker: &'static str,
    pub request: String,
    /// Whether one round is enough.
    pub once: bool,
}

/// What a row must show.
#[derive(Clone, Copy)]
pub enum Goal {
    /// The ratio of the figures, ours divided by the other one.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// The median of our figures.
    AtMost(f64),
    /// The 99th percentile of our figures.
    P99AtMost(f64),
    /// The row is shown beside the others.
    None,
}

/// A line of the table.
pub struct Row {
    pub title: &'static str,
    pub unit: Unit,
    pub ours: &'static str,
    /// The floor or rival, and how the table calls it.
    pub other: Option<(&'static str, &'static str)>,
    pub goal: Goal,
    /// Whether the table in the README has it.
    pub main: bool,
}

pub const MIB: usize = 1 << 20;

/// Returns every measure.
pub fn measures() -> Vec<Measure> {
    let mut all = Vec::new();
    let mut add = |name, worker, request: &str| {
        let once = worker == "instances";
        all.push(Measure { name, worker, request: request.into(), once });
    };
    add("raw live", "raw", "live 20000 100");
    add("here live", "ours", "here-batches-live 20000 100");
    add("raw fresh", "raw", "fresh 2000 10");
    add("here fresh", "ours", "here-batches-fresh 2000 10");
    add("raw fresh, two tasks", "raw", "tasks 20000 2");
    add("here fresh, one task", "ours", "here-tasks-fresh 10000 1");
    add("here fresh, two tasks", "ours", "here-tasks-fresh 20000 2");
    add("erpc", "erlang", "each 500");
    add("bare unix", "bare unix", "each 500");
    add("unix live", "ours", "unix-each-live 500");
    add("unix fresh", "ours", "unix-each-fresh 500");
    add("bare tls", "bare tls", "each 500");
    add("tls live", "ours", "tls-each-live 500");
    add("tls fresh", "ours", "tls-each-fresh 500");
    add("erpc, 64", "erlang", "flight 12800 64");
    add("bare unix, 64", "bare unix", "flight 12800 64");
    add("unix live, 64", "ours", "unix-flight-live 12800 64");
    add("unix live, 64 tasks", "ours", "unix-tasks-live 12800 64");
    add("unix fresh, 64", "ours", "unix-flight-fresh 6400 64");
    add("unix fresh, 64 tasks", "ours", "unix-tasks-fresh 6400 64");
    add("bare tls, 64", "bare tls", "flight 12800 64");
    add("tls live, 64", "ours", "tls-flight-live 12800 64");
    add("tls live, 64 tasks", "ours", "tls-tasks-live 12800 64");
    add("tls fresh, 64", "ours", "tls-flight-fresh 6400 64");
    add("tls fresh, 64 tasks", "ours", "tls-tasks-fresh 6400 64");
    add("erpc, 1 MiB", "erlang", &format!("echo 30 {MIB}"));
    add("unix, 1 MiB", "ours", &format!("unix-echo 30 {MIB}"));
    add("tls, 1 MiB", "ours", &format!("tls-echo 30 {MIB}"));
    add("erpc, 64 MiB", "erlang", &format!("echo 2 {}", 64 * MIB));
    add("unix, 64 MiB", "ours", &format!("unix-echo 2 {}", 64 * MIB));
    add("tls, 64 MiB", "ours", &format!("tls-echo 2 {}", 64 * MIB));
    add("unix beside", "ours", &format!("unix-beside 500 {}", 16 * MIB));
    add("tls beside", "ours", &format!("tls-beside 500 {}", 16 * MIB));
    add("run small", "programs", "gvm small 20");
    add("wasmtime run small", "programs", "wasmtime small 20");
    add("run python", "programs", "gvm python 10");
    add("wasmtime run python", "programs", "wasmtime python 5");
    add("python live", "python gvm", "live 20 200 0");
    add("extism live", "python extism", "live 20 50 0");
    add("wasmtime-py live", "python wasmtime", "live 20 50 0");
    add("python fresh", "python gvm", "fresh 20 50 0");
    add("wasmtime-py fresh", "python wasmtime", "fresh 20 10 0");
    add("extism fresh", "python extism", "fresh 5 1 0");
    add("python echo", "python gvm", &format!("echo 50 1 {MIB}"));
    add("extism echo", "python extism", &format!("echo 20 1 {MIB}"));
    add("python unix", "python gvm", "unix 500 1 0");
    add("python tls", "python gvm", "tls 500 1 0");
    add("python unix echo", "python gvm", &format!("unix-echo 20 1 {MIB}"));
    add("python array", "python gvm", &format!("array 3 1 {}", 64 * MIB));
    add("python copy", "python gvm", &format!("copy 3 1 {}", 64 * MIB));
    add("idle gvm", "idle", "gvm");
    add("idle gpmd", "idle", "gpmd");
    add("gpmd after an upload", "idle", "gpmd after an upload");
    add("10,000 instances", "instances", "instances 10000");
    all
}

/// Returns every row.
pub fn rows() -> Vec<Row> {
    let mut all = Vec::new();
    let mut add = |main, title, unit, ours, other, goal| {
        all.push(Row { title, unit, ours, other, goal, main });
    };
    use Goal::{AtMost, P99AtMost, RatioAtLeast, RatioAtMost};
    use Unit::{Bandwidth, KiB, MiB, Micros, Millis, Rate};
    let raw = |name| Some((name, "wasmtime alone"));
    let bare = |name| Some((name, "bare capnp-rpc"));
    let erpc = |name| Some((name, "Erlang erpc"));
    let mib = Bandwidth(MIB as f64);
    let mib64 = Bandwidth(64.0 * MIB as f64);
    add(true, "live `add` here", Micros, "here live", raw("raw live"), RatioAtMost(1.5));
    add(true, "fresh `add` here", Micros, "here fresh", raw("raw fresh"), RatioAtMost(1.2));
    add(
        true,
        "fresh here, two tasks at once",
        Rate,
        "here fresh, two tasks",
        Some(("here fresh, one task", "one task")),
        RatioAtLeast(1.4),
    );
    add(
        false,
        "fresh here, two tasks at once",
        Rate,
        "here fresh, two tasks",
        raw("raw fresh, two tasks"),
        Goal::None,
    );
    add(true, "live `add` there, Unix socket", Micros, "unix live", bare("bare unix"), RatioAtMost(1.6));
    add(true, "live `add` there, Unix socket", Micros, "unix live", erpc("erpc"), RatioAtMost(0.4));
    add(true, "fresh `add` there, Unix socket", Micros, "unix fresh", erpc("erpc"), RatioAtMost(0.5));
    add(true, "live `add` there, TCP and mutual TLS", Micros, "tls live", erpc("erpc"), RatioAtMost(0.8));
    add(false, "live `add` there, TCP and mutual TLS", Micros, "tls live", bare("bare tls"), Goal::None);
    add(false, "fresh `add` there, TLS", Micros, "tls fresh", erpc("erpc"), Goal::None);
    add(
        true,
        "64 in flight, live, Unix socket",
        Rate,
        "unix live, 64",
        bare("bare unix, 64"),
        RatioAtLeast(0.6),
    );
    add(true, "64 in flight, live, Unix socket", Rate, "unix live, 64", erpc("erpc, 64"), RatioAtLeast(1.4));
    add(
        false,
        "64 tasks, live, Unix socket",
        Rate,
        "unix live, 64 tasks",
        bare("bare unix, 64"),
        RatioAtLeast(0.6),
    );
    add(
        false,
        "64 tasks, live, Unix socket",
        Rate,
        "unix live, 64 tasks",
        erpc("erpc, 64"),
        RatioAtLeast(1.4),
    );
    add(
        true,
        "64 in flight, fresh, Unix socket",
        Rate,
        "unix fresh, 64",
        erpc("erpc, 64"),
        RatioAtLeast(1.0),
    );
    add(
        false,
        "64 tasks, fresh, Unix socket",
        Rate,
        "unix fresh, 64 tasks",
        erpc("erpc, 64"),
        RatioAtLeast(1.0),
    );
    add(false, "64 in flight, live, TLS", Rate, "tls live, 64", bare("bare tls, 64"), Goal::None);
    add(false, "64 in flight, live, TLS", Rate, "tls live, 64", erpc("erpc, 64"), Goal::None);
    add(false, "64 tasks, live, TLS", Rate, "tls live, 64 tasks", bare("bare tls, 64"), Goal::None);
    add(false, "64 in flight, fresh, TLS", Rate, "tls fresh, 64", erpc("erpc, 64"), Goal::None);
    add(false, "64 tasks, fresh, TLS", Rate, "tls fresh, 64 tasks", erpc("erpc, 64"), Goal::None);
    add(true, "1 MiB echo there, Unix socket", mib, "unix, 1 MiB", erpc("erpc, 1 MiB"), RatioAtLeast(1.5));
    add(false, "1 MiB echo there, TLS", mib, "tls, 1 MiB", erpc("erpc, 1 MiB"), Goal::None);
    add(false, "64 MiB echo there, Unix socket", mib64, "unix, 64 MiB", erpc("erpc, 64 MiB"), Goal::None);
    add(false, "64 MiB echo there, TLS", mib64, "tls, 64 MiB", erpc("erpc, 64 MiB"), Goal::None);
    add(
        true,
        "`add` beside 16 MiB echoes, Unix socket, p99",
        Millis,
        "unix beside",
        Some(("unix live", "alone")),
        P99AtMost(0.5),
    );
    add(
        false,
        "`add` beside 16 MiB echoes, TLS, p99",
        Millis,
        "tls beside",
        Some(("tls live", "alone")),
        Goal::None,
    );
    let cli = |name| Some((name, "wasmtime run"));
    add(true, "`gvm run`, small component", Millis, "run small", cli("wasmtime run small"), RatioAtMost(0.8));
    add(
        true,
        "`gvm run`, 18 MB Python component",
        Millis,
        "run python",
        cli("wasmtime run python"),
        RatioAtMost(0.1),
    );
    let extism = |name| Some((name, "extism"));
    let wasmtime_py = |name| Some((name, "wasmtime-py"));
    add(true, "Python: live `add`", Micros, "python live", extism("extism live"), RatioAtMost(0.12));
    add(false, "Python: live `add`", Micros, "python live", wasmtime_py("wasmtime-py live"), Goal::None);
    add(false, "Python: fresh `add`", Micros, "python fresh", extism("extism fresh"), Goal::None);
    add(false, "Python: fresh `add`", Micros, "python fresh", wasmtime_py("wasmtime-py fresh"), Goal::None);
    add(true, "Python: 1 MiB bytes echo", Micros, "python echo", extism("extism echo"), RatioAtMost(0.2));
    add(
        false,
        "Python: 64 MiB array echo",
        mib64,
        "python array",
        Some(("python copy", "plain copy")),
        Goal::None,
    );
    add(true, "Python: `add` there, Unix socket", Micros, "python unix", bare("bare unix"), RatioAtMost(2.0));
    add(false, "Python: `add` there, TLS", Micros, "python tls", bare("bare tls"), Goal::None);
    add(false, "Python: 1 MiB bytes echo there", mib, "python unix echo", erpc("erpc, 1 MiB"), Goal::None);
    add(true, "idle `gvm`, resident", MiB, "idle gvm", None, AtMost(24.0));
    add(true, "idle `gpmd`, resident", MiB, "idle gpmd", None, AtMost(12.0));
    add(false, "`gpmd` after an upload", MiB, "gpmd after an upload", None, Goal::None);
    add(true, "live instance after calls, 10,000 of them", KiB, "10,000 instances", None, AtMost(56.0));
    all
}
