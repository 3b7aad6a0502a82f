//! The published advisories of wasmtime: the condition of each that applies to a node, on a running node.
//!
//! In: the modules of `tests/hostile/advisories`. Each names its advisory, and says how its functions must answer.
//! Out: whether they do on another node, in fresh and in live instances, and whether that node is alive
//! afterwards. Must not know: how the node uses wasmtime.
//!
//! The first lines of a module are comments: the advisory and what was wrong, and then
//! - `run CALL = VALUE` or `run CALL ! CODE WORDS`: a call with its result, or with its error and a part of the
//!   message;
//! - `fresh` or `live` instead of `run`, for a call of only one kind of instance. The calls of a live instance
//!   share their state until one of them fails;
//! - `repeat N`, if all calls are made so many times, each time in new instances;
//! - `copies N`, if so many modules are made of the file. The word `COPY` in each is a number from 10;
//! - `options …`, the options of the command that makes the calls.

use std::fs;
use std::path::Path;

use crate::bed::Bed;
use crate::guests;

/// The node that runs the modules.
const NODE: &str = "far";

/// The first number of a copy.
const FIRST_COPY: usize = 10;

struct Case {
    name: String,
    text: String,
    calls: Vec<Call>,
    repeat: usize,
    copies: usize,
    options: Vec<String>,
}

struct Call {
    text: String,
    answer: Answer,
    fresh: bool,
    live: bool,
}

enum Answer {
    Value(String),
    Error { code: String, words: String },
}

impl Call {
    fn parse(kind: &str, line: &str) -> Option<Call> {
        let (text, answer) = match (line.split_once(" = "), line.split_once(" ! ")) {
            (Some((text, value)), None) => (text, Answer::Value(value.to_owned())),
            (None, Some((text, error))) => {
                let (code, words) = error.split_once(' ').unwrap_or((error, ""));
                (text, Answer::Error { code: code.to_owned(), words: words.to_owned() })
            }
            _ => return None,
        };
        Some(Call { text: text.to_owned(), answer, fresh: kind != "live", live: kind != "fresh" })
    }

    fn is_error(&self) -> bool {
        matches!(self.answer, Answer::Error { .. })
    }

    fn value(&self) -> Option<&str> {
        match &self.answer {
            Answer::Value(value) => Some(value),
            Answer::Error { .. } => None,
        }
    }
}

impl Case {
    fn read(path: &Path) -> Case {
        assert_eq!(path.extension().unwrap(), "wat", "{}", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let mut case = Case { name, text, calls: Vec::new(), repeat: 1, copies: 0, options: Vec::new() };
        for line in case.text.lines().map_while(|line| line.strip_prefix(";; ")) {
            let wrong = || panic!("{}: {line}", case.name);
            match line.split_once(' ') {
                Some((kind @ ("run" | "fresh" | "live"), call)) => {
                    case.calls.push(Call::parse(kind, call).unwrap_or_else(wrong));
                }
                Some(("repeat", times)) => case.repeat = times.parse().unwrap(),
                Some(("copies", count)) => case.copies = count.parse().unwrap(),
                Some(("options", options)) => {
                    case.options = options.split(' ').map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        assert!(case.calls.iter().any(|call| call.fresh), "{} has no call of a fresh instance", case.name);
        assert!(case.calls.iter().any(|call| call.live), "{} has no call of a live instance", case.name);
        assert!(["CVE-", "GHSA-"].iter().any(|id| case.text.contains(id)), "{} names no advisory", case.name);
        case
    }

    /// Returns the modules of the file, by name.
    fn modules(&self) -> Vec<(String, String)> {
        match self.copies {
            0 => vec![(self.name.clone(), self.text.clone())],
            copies => (FIRST_COPY..FIRST_COPY + copies)
                .map(|copy| (format!("{}-{copy}", self.name), self.text.replace("COPY", &copy.to_string())))
                .collect(),
        }
    }

    fn upload(&self, bed: &Bed) {
        for (name, text) in self.modules() {
            bed.upload(&name, &bed.write(&format!("{name}.wat"), text));
            if !self.options.is_empty() {
                // Compiles the module now, so that no limit of a call includes it.
                let spawn = format!("Node.spawn({NODE}, {name})");
                bed.eval([format!("Node.connect({NODE})"), spawn]).ok();
            }
        }
    }

    /// Makes the calls of fresh or of live instances. Returns how many.
    fn check(&self, bed: &Bed, live: bool) -> usize {
        let modules = self.modules();
        let calls: Vec<(&str, &Call)> = modules
            .iter()
            .flat_map(|(name, _)| self.calls.iter().map(move |call| (&**name, call)))
            .filter(|(_, call)| if live { call.live } else { call.fresh })
            .collect();
        for _ in 0..self.repeat {
            // An error ends the command.
            for batch in calls.split_inclusive(|(_, call)| call.is_error()) {
                self.check_batch(bed, live, batch);
            }
        }
        self.repeat * calls.len()
    }

    fn check_batch(&self, bed: &Bed, live: bool, batch: &[(&str, &Call)]) {
        let mut words = self.options.clone();
        words.push(format!("Node.connect({NODE})"));
        let mut spawned: Vec<&str> = Vec::new();
        for (name, call) in batch {
            if !live {
                words.push(format!("Node.run({NODE}, {name}.{})", call.text));
                continue;
            }
            if spawned.last() != Some(name) {
                if !spawned.is_empty() {
                    words.push(format!("Node.drop(i{})", spawned.len()));
                }
                spawned.push(name);
                words.push(format!("Node.spawn({NODE}, {name})"));
            }
            words.push(format!("i{}.{}", spawned.len(), call.text));
        }
        let ended = bed.eval(&words);
        let place =
            format!("{}, in a {} instance: {words:?}", self.name, if live { "live" } else { "fresh" });
        let out = ended.out();
        let values: Vec<&str> = out.lines().skip(1).filter(|line| !is_notice(line)).collect();
        let expected: Vec<&str> = batch.iter().filter_map(|(_, call)| call.value()).collect();
        assert_eq!(values, expected, "{place}\nstderr: {}", ended.err());
        match batch.last().map(|(_, call)| &call.answer) {
            Some(Answer::Error { code, words }) => {
                let said = ended.err();
                let coded = said.lines().any(|line| line.starts_with(&format!("{code}: ")));
                assert!(
                    ended.status == Some(1) && coded && said.contains(words),
                    "{place}\nexpected {code} {words}, status 1; {:?}\nstderr: {said}",
                    ended.status
                );
            }
            _ => assert_eq!(ended.status, Some(0), "{place}\nstderr: {}", ended.err()),
        }
    }
}

/// Whether a line names a call or an instance, or says that an instance is gone.
fn is_notice(line: &str) -> bool {
    let instance = |number: &str| number.parse::<u32>().is_ok();
    line.starts_with("ID:  ") || line == "Instance dropped." || line.strip_prefix('i').is_some_and(instance)
}

fn cases() -> Vec<Case> {
    let folder = fs::read_dir(guests::repository().join("tests/hostile/advisories")).unwrap();
    let mut cases: Vec<Case> = folder.map(|entry| Case::read(&entry.unwrap().path())).collect();
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    cases
}

/// Makes a folder that guests may write, with links out of it, and one that they may only read.
fn folders(bed: &Bed) -> [String; 2] {
    let [data, fixed] = ["data", "fixed"].map(|name| bed.folder().join(name));
    for folder in [&data, &fixed] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "content").unwrap();
    }
    for (target, link) in [("..", "up"), ("../", "up-slash"), ("/", "root")] {
        std::os::unix::fs::symlink(target, data.join(link)).unwrap();
    }
    [format!("{}::/data", data.display()), format!("{}::/fixed::ro", fixed.display())]
}

#[test]
fn have_no_effect() {
    let cases = cases();
    assert!(!cases.is_empty());
    let bed = Bed::new();
    bed.upload("math", &guests::math());
    let [data, fixed] = folders(&bed);
    let node = bed.node_with(NODE, &["--dir", &data, "--dir", &fixed]);
    cases.iter().for_each(|case| case.upload(&bed));
    // Both kinds of instances have their own pool of memories, so each kind is called in the order of the files.
    let counts = std::thread::scope(|scope| {
        let bed = &bed;
        let cases = &cases;
        [false, true]
            .map(|live| scope.spawn(move || cases.iter().map(|case| case.check(bed, live)).sum::<usize>()))
            .map(|calls| calls.join().unwrap())
    });
    eprintln!("{} files, {} calls of fresh instances and {} of live ones", cases.len(), counts[0], counts[1]);
    for folder in ["data", "fixed"] {
        assert_eq!(fs::read_to_string(bed.folder().join(folder).join("file")).unwrap(), "content");
    }
    assert_eq!(bed.nodes(), [NODE]);
    let called = bed.eval([format!("Node.connect({NODE})"), format!("Node.run({NODE}, math.add(20, 22))")]);
    assert_eq!(called.ok().lines().last(), Some("42"));
    for said in [node.running.err(), bed.gpmd_err()] {
        assert!(!said.contains("panicked"), "{said}");
    }
}
