//! The corpus of hostile modules: every limit and every kind of broken value, on running nodes.
//!
//! In: the modules of `tests/hostile`, and some that are too large for a text file. Each says how it must end. Out: whether
//! it ends that way four times here and four times on another node, in fresh and in live instances, while both nodes keep
//! answering and keep their memory and descriptors. Must not know: how a limit is enforced.
//!
//! The first lines of a module are comments: what it tries, and then
//! - `call: f()`, the call;
//! - `is: CODE OUTCOME words`, its error, with words that the message contains; or `is: result VALUE`;
//! - `upload: CODE words` instead, if it must not be stored at all;
//! - `here: no`, if only a call to another node ends that way.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::bed::{Bed, GVM, Node};
use crate::guests;
use crate::process::{anonymous_memory, descriptors, wait_until_idle};
use crate::terminal::Terminal;

/// Times that each module is called, in each place: in a fresh instance, a live one, a fresh one and a live one.
const ROUNDS: usize = 4;

/// The round whose memory is the measure: by then both kinds of instances have run.
const FIRST: usize = 1;

/// The time that calls may take: of modules that end by themselves, and of those that must be stopped.
const LONG: &str = "25s";
const SHORT: &str = "200ms";

/// Callers of the two kinds of nodes. Modules that must be stopped by time take the most time.
const LONG_CALLERS: usize = 3;
const SHORT_CALLERS: usize = 4;

/// Growth that is allowed besides a tenth: the pool keeps at most 512 KiB of what guests have written in each of 100 idle slots
/// (`KEEP_WRITTEN`), which fill up over many rounds.
const SLACK: u64 = 16 << 20;

/// How long a process keeps memory that it has freed.
const GIVEN_BACK: Duration = Duration::from_secs(2);

/// Calls that take longer are printed.
const SHOWN: Duration = Duration::from_secs(2);

struct Case {
    name: String,
    module: Vec<u8>,
    call: String,
    verdict: Verdict,
    here: bool,
}

#[derive(Debug, PartialEq)]
enum Verdict {
    /// The module is refused when it is stored.
    Refused {
        code: String,
        words: Vec<String>,
    },
    Error {
        code: String,
        outcome: String,
        words: Vec<String>,
    },
    Value(Option<String>),
}

impl Case {
    fn parse(name: &str, module: Vec<u8>) -> Case {
        let text = String::from_utf8_lossy(&module).into_owned();
        let head = text.lines().map_while(|line| line.strip_prefix(";;")).map(str::trim).collect::<Vec<_>>();
        let find = |key: &str| head.iter().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let words = |text: &mut dyn Iterator<Item = &str>| text.map(str::to_owned).collect::<Vec<_>>();
        let verdict = match (find("upload:"), find("is:")) {
            (Some(upload), None) => {
                let mut parts = upload.split_whitespace();
                Verdict::Refused { code: parts.next().unwrap().to_owned(), words: words(&mut parts) }
            }
            (None, Some(is)) => match is.strip_prefix("result") {
                Some(value) => {
                    Verdict::Value(Some(value.trim().to_owned()).filter(|value| !value.is_empty()))
                }
                None => {
                    let mut parts = is.split_whitespace();
                    let [code, outcome] = [parts.next(), parts.next()].map(|part| part.unwrap().to_owned());
                    Verdict::Error { code, outcome, words: words(&mut parts) }
                }
            },
            both => panic!("{name}: {both:?}"),
        };
        let call = find("call:").unwrap_or("f()").to_owned();
        Case { name: name.to_owned(), call, verdict, here: find("here:") != Some("no"), module }
    }

    /// A module that is made here, with the head that a file would have.
    fn made(name: &str, head: &str, module: impl Into<Vec<u8>>) -> Case {
        let head = head.split(" / ").map(|line| format!(";; {line}\n")).collect::<String>();
        Case { module: module.into(), ..Case::parse(name, head.into_bytes()) }
    }

    fn takes_time(&self) -> bool {
        matches!(&self.verdict, Verdict::Error { code, .. } if code == "TIMEOUT")
    }

    fn is_stored(&self) -> bool {
        !matches!(self.verdict, Verdict::Refused { .. })
    }

    /// Whether the module is compiled: not if its imports or its size are refused before.
    fn is_compiled(&self) -> bool {
        match &self.verdict {
            Verdict::Refused { .. } => false,
            Verdict::Error { code, outcome, .. } => {
                !(outcome == "not-started" && ["IMPORT_UNSATISFIED", "LIMIT_EXCEEDED"].contains(&&**code))
            }
            Verdict::Value(_) => true,
        }
    }

    /// Checks what a prompt shows after the call. Returns what is wrong.
    fn check_screen(&self, place: &str, shown: &str) -> Option<String> {
        let right = match &self.verdict {
            Verdict::Refused { .. } => false,
            Verdict::Error { code, words, .. } => {
                shown.contains(&format!("{code}: ")) && words.iter().all(|word| shown.contains(word))
            }
            Verdict::Value(None) => !shown.lines().any(is_error),
            Verdict::Value(Some(value)) => shown.lines().any(|line| line == value),
        };
        let (name, verdict) = (&self.name, &self.verdict);
        (!right).then(|| format!("{name} {place}: expected {verdict:?}, found:\n{}", start_of(shown)))
    }

    /// Checks the last line of `gvm eval --json`. Returns what is wrong.
    fn check_json(&self, line: &serde_json::Value) -> Option<String> {
        let right = match &self.verdict {
            Verdict::Refused { .. } => false,
            Verdict::Error { code, outcome, words } => {
                let error = &line["error"];
                let message = error["message"].as_str().unwrap_or_default();
                error["code"] == **code
                    && error["outcome"] == **outcome
                    && words.iter().all(|word| message.contains(word))
            }
            Verdict::Value(_) => line.get("error").is_none() && line.get("result").is_some(),
        };
        let (name, verdict, line) = (&self.name, &self.verdict, line.to_string());
        (!right).then(|| format!("{name}: expected {verdict:?}, found {}", start_of(&line)))
    }
}

fn start_of(text: &str) -> String {
    text.chars().take(2000).collect()
}

/// Whether a line begins with the code of an error.
fn is_error(line: &str) -> bool {
    let code = line.split(": ").next().unwrap_or_default();
    line.contains(": ")
        && code.len() > 3
        && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Returns the modules of the folder and those that are made here.
fn corpus() -> Vec<Case> {
    let mut cases = made();
    for entry in std::fs::read_dir(guests::repository().join("tests/hostile")).unwrap() {
        let path = entry.unwrap().path();
        // The advisories have a test of their own.
        if path.is_dir() {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        cases.push(Case::parse(&name, std::fs::read(&path).unwrap()));
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    cases
}

/// Modules that are too large for a text file.
fn made() -> Vec<Case> {
    let text = |name: &str, head: &str, text: String| Case::made(name, head, text);
    let runs = "is: result 1";
    let one = "(func (export \"f\") (result i32) i32.const 1)";
    let nested = |depth: usize| {
        let (open, close) = ("block (result i32) ".repeat(depth), " end".repeat(depth));
        format!("(module (func (export \"f\") (result i32) {open} i32.const 1 {close}))")
    };
    let many = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<String>();
    vec![
        text("big-name", runs, format!("(module {one} (func (export \"{}\")))", "n".repeat(90_000))),
        text(
            "big-names",
            "is: TRAP ran-and-failed unreachable",
            format!("(module (func ${} (export \"f\") unreachable))", "_ZN3aaaE".repeat(12_000)),
        ),
        text(
            "big-exports",
            runs,
            format!("(module {one} (func $g) {})", many(20_000, &|n| format!("(export \"e{n}\" (func $g))"))),
        ),
        text(
            "big-imports",
            "is: IMPORT_UNSATISFIED not-started more",
            format!("(module {} {one})", many(20_000, &|n| format!("(import \"m\" \"i{n}\" (func))"))),
        ),
        text("big-functions", runs, format!("(module {one} {})", "(func)".repeat(30_000))),
        text(
            "big-globals",
            "is: LIMIT_EXCEEDED not-started functions globals",
            format!("(module {one} {})", "(global i32 (i32.const 0))".repeat(400_000)),
        ),
        text("big-blocks", runs, nested(2_000)),
        text(
            "big-branch-table",
            runs,
            format!(
                "(module (func (export \"f\") (result i32) (block (br_table {} (i32.const 7))) i32.const 1))",
                "0 ".repeat(50_000)
            ),
        ),
        text(
            "big-body",
            runs,
            format!(
                "(module (func (export \"f\") (result i32) i32.const 1 {}))",
                "i32.const 1 i32.mul ".repeat(100_000)
            ),
        ),
        text(
            "big-ifs",
            runs,
            format!(
                "(module (func (export \"f\") (result i32) (local i32) {} i32.const 1))",
                many(5_000, &|n| format!(
                    "(if (i32.eq (local.get 0) (i32.const {n})) (then (local.set 0 (i32.const {n}))))"
                ))
            ),
        ),
        text(
            "big-data",
            runs,
            format!("(module (memory 512) (data (i32.const 0) \"{}\") {one})", "x".repeat(16 << 20)),
        ),
        text(
            "big-segments",
            runs,
            format!("(module (memory 1) {} {one})", "(data (i32.const 0) \"x\")".repeat(50_000)),
        ),
        text(
            "big-results",
            "is: result",
            format!(
                "(module (func (export \"f\") (result {}) {}))",
                "i32 ".repeat(1000),
                "i32.const 1 ".repeat(1000)
            ),
        ),
        text(
            "big-results-1001",
            "upload: MODULE_INVALID",
            format!("(module (func (export \"f\") (result {}) unreachable))", "i32 ".repeat(1001)),
        ),
        text(
            "big-params-1001",
            "upload: MODULE_INVALID",
            format!("(module (func (export \"f\") (param {})))", "i32 ".repeat(1001)),
        ),
        text(
            "big-locals",
            "is: LIMIT_EXCEEDED ran-and-failed 512 KiB of stack",
            format!(
                "(module (func $f (export \"f\") (result i64) (local {}) {} (drop (call $f)) {}))",
                "i64 ".repeat(20_000),
                many(20_000, &|n| format!("(local.set {n} (call $g)) ")),
                many(20_000, &|n| format!("(local.get {n}) ")) + &"i64.xor ".repeat(19_999)
            )
            .replace("(module ", "(module (func $g (result i64) i64.const 1) "),
        ),
        text(
            "big-locals-50001",
            "upload: MODULE_INVALID locals",
            format!("(module (func (export \"f\") (local {})))", "i64 ".repeat(50_001)),
        ),
        text(
            "big-instances",
            "is: LIMIT_EXCEEDED not-started 257 core instances 256",
            format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(257)),
        ),
        text(
            "big-components",
            "upload: MODULE_INVALID",
            format!("{}{}", "(component ".repeat(150), ")".repeat(150)),
        ),
        text(
            "big-types",
            "upload: MODULE_INVALID",
            format!(
                "(component (type $t0 u8) {} (import \"f\" (func (param \"a\" $t150))))",
                many(150, &|n| format!("(type $t{} (option $t{n}))", n + 1))
            ),
        ),
        text(
            "big-record",
            "upload: MODULE_INVALID",
            format!(
                "(component (type $r' (record {})) (import \"r\" (type $r (eq $r'))))",
                many(20_000, &|n| format!("(field \"f{n}\" u8)"))
            ),
        ),
        Case::made("big-zeros", "upload: MODULE_INVALID", vec![0; 1 << 20]),
        Case::made("big-nothing", "upload: MODULE_INVALID", Vec::new()),
        Case::made(
            "big-noise",
            "upload: MODULE_INVALID",
            b"\0asm\x01\0\0\0".iter().copied().cycle().take(1 << 20).collect::<Vec<_>>(),
        ),
    ]
}

/// A node with a prompt. It runs the local calls, and is the caller of the others.
struct Caller {
    terminal: Terminal,
    prompt: String,
    /// The time that its calls may take, here and on the other node.
    time: &'static str,
}

impl Caller {
    fn start(bed: &Bed, name: &str, there: &str, time: &'static str, options: &[&str]) -> Caller {
        let home = bed.home();
        let env = [("GHOST_HOME", home.to_str().unwrap()), ("NO_COLOR", "1"), ("GPMD_MDNS", "off")];
        let args = [&["--name", name, "--timeout", time], options].concat();
        let terminal = Terminal::sized((80, 400), GVM, &args, &env, bed.folder());
        let caller = Caller { terminal, prompt: format!("({name}) >"), time };
        caller.terminal.wait_for_prompt(None, |text| text == caller.prompt);
        caller.clear();
        assert!(caller.ask(&format!("Node.connect({there})")).contains(there));
        caller
    }

    /// Enters a statement; returns what it shows.
    #[track_caller]
    fn ask(&self, statement: &str) -> String {
        self.terminal.enter(statement);
        let (row, _) = self.terminal.wait_for_prompt(Some(0), |text| text == self.prompt);
        let shown = self.terminal.lines()[..row].join("\n");
        self.clear();
        shown
    }

    /// Clears the screen, so that the next prompt is in its first row.
    fn clear(&self) {
        self.terminal.press("\x0c");
        self.terminal.wait("a clear screen", |screen| (screen.cursor_position().0 == 0).then_some(()));
        self.terminal.wait_for_prompt(None, |text| text == self.prompt);
    }

    /// Calls a module in a live instance, here or on the other node; returns what it shows.
    #[track_caller]
    fn ask_live(&self, there: Option<&str>, module: &str, call: &str) -> String {
        let spawned = self.ask(&match there {
            None => format!("Node.spawn({module})"),
            Some(there) => format!("Node.spawn({there}, {module})"),
        });
        let Some(name) = spawned.lines().last().filter(|name| name.starts_with('i') && name.len() < 9) else {
            return spawned;
        };
        let shown = self.ask(&format!("{name}.{call}"));
        self.ask(&format!("Node.drop({name})"));
        shown
    }

    /// Checks that a node answers another call.
    #[track_caller]
    fn check_neighbour(&self, there: Option<&str>, after: &str) {
        let call = match there {
            None => "math.add(20, 22)".to_owned(),
            Some(there) => format!("Node.run({there}, math.add(20, 22))"),
        };
        let shown = self.ask(&call);
        assert!(shown.lines().any(|line| line == "42"), "{call} after {after}:\n{}", start_of(&shown));
    }

    /// Calls a module on the other node and here. Returns what is wrong.
    fn round(&self, bed: &Bed, there: &str, round: usize, case: &Case) -> Vec<String> {
        let Case { name, call, .. } = case;
        let mut wrong = Vec::new();
        if round == 0 {
            // The outcome of an error is not on the screen.
            let remote = format!("Node.run({there}, {name}.{call})");
            let ask = || {
                let connect = format!("Node.connect({there})");
                let answers = bed.eval(["--json", "--timeout", self.time, &connect, &remote]).json();
                answers.into_iter().next_back().unwrap()
            };
            let mut answer = ask();
            // On a busy machine the time may be over before the guest begins, the first time.
            if answer["error"]["code"] == "TIMEOUT" && answer["error"]["outcome"] == "not-started" {
                answer = ask();
            }
            wrong.extend(case.check_json(&answer));
        } else {
            let shown = match round % 2 {
                0 => self.ask(&format!("Node.run({there}, {name}.{call})")),
                _ => self.ask_live(Some(there), name, call),
            };
            wrong.extend(case.check_screen("on another node", &shown));
        }
        self.check_neighbour(Some(there), name);
        if case.here {
            let shown = match round % 2 {
                0 => self.ask(&format!("{name}.{call}")),
                _ => self.ask_live(None, name, call),
            };
            wrong.extend(case.check_screen("here", &shown));
            self.check_neighbour(None, name);
        }
        wrong
    }
}

/// Stores all modules, with several commands at a time. Checks those that must be refused.
fn store(bed: &Bed, cases: &[Case]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let file = bed.write(&format!("{}.wat", case.name), &case.module);
                    let args = [format!("--name={}", case.name), format!("--file={}", file.display())];
                    let ended = bed.gpmd(
                        [&["wasm", "upload", "--version=1.0.0"], &args.each_ref().map(|arg| &**arg)[..]]
                            .concat(),
                    );
                    match &case.verdict {
                        Verdict::Refused { code, words } => {
                            let err = ended.fails(code);
                            assert!(
                                words.iter().all(|word| err.contains(word)),
                                "{}: {}",
                                case.name,
                                start_of(&err)
                            );
                        }
                        _ => assert_eq!(ended.status, Some(0), "{}: {}", case.name, start_of(&ended.err())),
                    }
                }
            });
        }
    });
}

/// Waits until gpmd has compiled all modules, so that no limit on time includes a compilation.
fn wait_until_compiled(bed: &Bed, count: usize) {
    let started = Instant::now();
    while bed.compiled() < count {
        let late = started.elapsed() > Duration::from_secs(120);
        assert!(!late, "gpmd has compiled {} of {count} modules", bed.compiled());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a process holds: anonymous resident memory, and descriptors.
fn held(pid: Pid) -> (u64, usize) {
    wait_until_idle(pid);
    std::thread::sleep(GIVEN_BACK);
    (anonymous_memory(pid), descriptors(pid))
}

/// A node that is called, its callers, and the modules that they call.
struct Group<'a> {
    node: Node,
    name: &'static str,
    callers: Vec<Caller>,
    cases: Vec<&'a Case>,
}

impl<'a> Group<'a> {
    fn start(
        bed: &Bed,
        name: &'static str,
        time: &'static str,
        callers: usize,
        folder: &Path,
        cases: Vec<&'a Case>,
    ) -> Group<'a> {
        let folder = format!("{}::/data", folder.display());
        let options = ["--max-output", "256KiB", "--grant", "nodes", "--dir", &folder];
        let node = bed.node_with(name, &options);
        let callers =
            (0..callers).map(|n| Caller::start(bed, &format!("{name}{n}"), name, time, &options)).collect();
        Group { node, name, callers, cases }
    }

    fn pids(&self) -> Vec<Pid> {
        let callers = self.callers.iter().map(|caller| caller.terminal.pid());
        std::iter::once(self.node.pid()).chain(callers).collect()
    }
}

/// Calls each module once, with all callers of all groups at the same time.
fn round(bed: &Bed, groups: &mut [Group<'_>], round: usize) {
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for group in groups {
            let (name, count) = (group.name, group.callers.len());
            for (index, caller) in group.callers.iter_mut().enumerate() {
                let cases = group.cases.iter().skip(index).step_by(count);
                let wrong = &wrong;
                scope.spawn(move || {
                    cases.for_each(|case| {
                        let began = Instant::now();
                        let found = caller.round(bed, name, round, case);
                        let took = began.elapsed();
                        if took > SHOWN {
                            eprintln!("{} takes {took:.1?} in round {round}", case.name);
                        }
                        wrong.lock().unwrap().extend(found);
                    });
                });
            }
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "round {round}: {} are wrong:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn is_contained() {
    let started = Instant::now();
    let cases = corpus();
    let bed = Bed::new();
    bed.upload("math", &guests::math());
    store(&bed, &cases);
    let stored = started.elapsed();
    let folder = bed.folder().join("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "content").unwrap();
    wait_until_compiled(&bed, 1 + cases.iter().filter(|case| case.is_compiled()).count());
    let compiled = started.elapsed();

    let (short, long) =
        cases.iter().filter(|case| case.is_stored()).partition::<Vec<_>, _>(|case| case.takes_time());
    let mut groups = [
        Group::start(&bed, "long", LONG, LONG_CALLERS, &folder, long),
        Group::start(&bed, "short", SHORT, SHORT_CALLERS, &folder, short),
    ];
    let pids: Vec<Pid> = groups.iter().flat_map(Group::pids).collect();
    let mut first = Vec::new();
    for number in 0..ROUNDS {
        round(&bed, &mut groups, number);
        if number == FIRST {
            first = pids.iter().map(|pid| held(*pid)).collect();
        }
    }
    for (pid, (memory, open)) in pids.iter().zip(first) {
        let (memory_after, open_after) = held(*pid);
        eprintln!(
            "{} KiB and {open} descriptors, then {} KiB and {open_after}",
            memory >> 10,
            memory_after >> 10
        );
        assert!(
            memory_after <= memory + memory / 10 + SLACK,
            "memory grew from {memory} to {memory_after} bytes"
        );
        assert!(open_after <= open + 8, "descriptors grew from {open} to {open_after}");
    }
    let stored_modules = cases.iter().filter(|case| case.is_stored()).count();
    eprintln!(
        "{} modules, {stored_modules} of them called; stored after {stored:?}, compiled after {compiled:?}, done after {:?}",
        cases.len(),
        started.elapsed()
    );
    assert_eq!(bed.nodes().len(), groups.iter().map(|group| 1 + group.callers.len()).sum::<usize>());
    assert!(!bed.gpmd_err().contains("panicked"), "{}", bed.gpmd_err());
}
