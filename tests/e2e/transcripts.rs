//! Whole sessions, typed at a real terminal and compared with a file character by character.
//!
//! In: `tests/transcripts/*.txt`, and the ```console blocks of the README and the tour: what a person types
//! after a prompt, and what the screen then shows. Out: where the product differs. `GVM_BLESS=1` rewrites the
//! files. Generated names of nodes, ids and folders vary; they are replaced by those in the file. Must not
//! know: what the statements mean.
//!
//! A line that begins with `# ` is not typed: `# node NAME` starts a node in the background at that point.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::bed::{Bed, GPMD, GVM, Node};
use crate::guests;
use crate::terminal::Terminal;

const CREATED: &str = "GVM has been created ";
const STARTED: &str = "GPMD is running in the background.\n";
/// The start of the line with which the demo's tour names its second node.
const TOUR: &str = "  Node.connect(";

#[test]
fn spec() {
    play("spec");
}

#[test]
fn shell() {
    play("shell");
}

#[test]
fn mistakes() {
    play("mistakes");
}

#[test]
fn values() {
    play("values");
}

#[test]
fn sessions() {
    play("sessions");
}

#[test]
fn live() {
    play("live");
}

/// The section whose modules need other tools to build; `tests/languages` plays it.
const BUILT_ELSEWHERE: &str = "Modules in four languages";

/// Plays the ```console blocks of all other sections. A block that begins with a greeting is a session of the
/// demo.
#[track_caller]
fn play_document(document: &str) {
    let text = fs::read_to_string(guests::repository().join(document)).unwrap();
    let sections = text.split("\n### ").filter(|section| !section.starts_with(BUILT_ELSEWHERE));
    let blocks = sections.flat_map(|section| section.split("```console\n").skip(1));
    let blocks: Vec<&str> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "{document} shows no sessions");
    for block in blocks {
        let demo = block.starts_with(CREATED);
        let typed = match demo {
            true => format!("$: gvm demo\n{block}(node-5488) > exit\n"),
            // Starts the second node of the example.
            false => block.replacen(STARTED, &format!("{STARTED}# node node-8399\n"), 1),
        };
        let shown = Player::new("$: ", &typed).play(&typed);
        let shown = match demo {
            true => without_surroundings(&shown),
            false => shown.replacen("# node node-8399\n", "", 1),
        };
        assert!(shown == block, "{document} promises:\n{block}\nthe terminal shows:\n{shown}");
    }
}

#[test]
fn readme() {
    play_document("README.md");
}

#[test]
fn tour() {
    play_document("docs/tour.md");
}

/// Removes from a demo session what the documents leave out: its start, its tour and its end.
fn without_surroundings(shown: &str) -> String {
    let ends = ["$: gvm demo", "(node-5488) > exit", "Goodbye :("];
    let mut in_tour = false;
    let lines = shown.lines().filter(|line| {
        in_tour = line.starts_with("A demo: ") || in_tour && line.starts_with("  ");
        !in_tour && !ends.contains(line)
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[track_caller]
fn play(name: &str) {
    let path = guests::repository().join(format!("tests/transcripts/{name}.txt"));
    let expected = fs::read_to_string(&path).unwrap();
    let shown = Player::new("$: ", &expected).play(&expected);
    if shown == expected {
        return;
    }
    if std::env::var_os("GVM_BLESS").is_some() {
        fs::write(&path, shown).unwrap();
        return;
    }
    let differs = expected.lines().zip(shown.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or(expected.lines().count().min(shown.lines().count())) + 1;
    panic!(
        "{name}.txt differs at line {line} (GVM_BLESS=1 rewrites the file).\nexpected:\n{expected}\nshown:\n{shown}"
    );
}

/// A shell at a terminal, in a folder with the files that the transcripts use.
struct Player {
    prompt: &'static str,
    // Dropped in this order: terminal, nodes, the home.
    terminal: Terminal,
    nodes: Vec<Node>,
    /// Pairs of a node's real name and its name in the file.
    names: Vec<(String, String)>,
    /// The file's names of nodes that have not greeted yet, in reverse order.
    unnamed: Vec<String>,
    bed: Bed,
}

impl Player {
    fn new(prompt: &'static str, expected: &str) -> Player {
        let bed = Bed::bare();
        furnish(&bed);
        let path = format!("{}:{}", bed.folder().join("bin").display(), std::env::var("PATH").unwrap());
        let home = bed.home();
        let env = [
            ("PS1", prompt),
            ("PATH", &path),
            ("GHOST_HOME", home.to_str().unwrap()),
            ("NO_COLOR", "1"),
            // The default ports may be in use by a daemon of the person who runs the tests.
            ("GPMD_PORT", "0"),
            ("GPMD_MDNS", "off"),
            ("GPMD_COMMAND_PORT", "0"),
        ];
        let terminal = Terminal::open("bash", &["--norc", "--noprofile", "--noediting"], &env, bed.folder());
        let unnamed = expected.lines().rev().filter_map(created).map(str::to_owned).collect();
        Player { prompt, terminal, nodes: Vec::new(), names: Vec::new(), unnamed, bed }
    }

    /// Types every line that follows a prompt; returns the whole session as the screen shows it.
    fn play(mut self, expected: &str) -> String {
        let mut notes: Vec<(usize, &str)> = Vec::new();
        let mut typed = 0;
        let mut row = self.wait_for_prompt(None);
        for line in expected.lines() {
            if line.starts_with('#') {
                notes.push((typed, line));
                if let Some(name) = line.strip_prefix("# node ") {
                    self.start_node(name);
                }
            } else if let Some(keys) = self.keys(line) {
                let keys =
                    self.names.iter().fold(keys.to_owned(), |keys, (real, shown)| keys.replace(shown, real));
                self.terminal.enter(&keys);
                typed += 1;
                row = self.wait_for_prompt(Some(row));
            }
        }
        self.transcript(&notes, expected)
    }

    fn wait_for_prompt(&mut self, below: Option<usize>) -> usize {
        let shell = self.prompt.trim_end();
        let is_prompt = |text: &str| text == shell || text.starts_with('(') && text.ends_with(") >");
        let (row, _) = self.terminal.wait_for_prompt(below, is_prompt);
        for real in self.terminal.lines().iter().filter_map(|line| created(line)) {
            if !self.names.iter().any(|(known, _)| known == real) {
                let shown = self.unnamed.pop().unwrap_or_else(|| real.to_owned());
                self.names.push((real.to_owned(), shown));
            }
        }
        let lines = self.terminal.lines();
        let toured = lines.iter().find_map(|line| line.strip_prefix(TOUR)?.strip_suffix(')'));
        let toured = toured.filter(|real| !self.names.iter().any(|(known, _)| known == real));
        self.names.extend(toured.map(|real| (real.to_owned(), "node-8399".to_owned())));
        row
    }

    /// Returns what is typed in this line of the file, if anything.
    fn keys<'a>(&self, line: &'a str) -> Option<&'a str> {
        let at_gvm = || line.strip_prefix('(')?.split_once(") > ").map(|(_, keys)| keys);
        line.strip_prefix(self.prompt).or_else(at_gvm)
    }

    /// Starts a node. Its real name sorts after every generated name, as its name in the file does.
    fn start_node(&mut self, shown: &str) {
        let real = match shown.strip_prefix("node-") {
            Some(_) => format!("node-9999{}", self.nodes.len()),
            None => shown.to_owned(),
        };
        self.nodes.push(self.bed.node(&real));
        self.names.push((real, shown.to_owned()));
    }

    /// Returns the screen with the file's names, ids and folders, and with the file's notes in their places.
    fn transcript(&self, notes: &[(usize, &str)], expected: &str) -> String {
        let mut ids = expected.lines().filter_map(id).collect::<Vec<_>>().into_iter();
        let mut notes = notes.iter().peekable();
        let mut text = String::new();
        let mut typed = 0;
        let lines = self.terminal.lines();
        let folder = self.bed.folder().to_str().unwrap();
        for line in lines.iter().take(lines.len() - 1) {
            if self.keys(line).is_some() {
                while let Some((_, note)) = notes.next_if(|(before, _)| *before == typed) {
                    text += &format!("{note}\n");
                }
                typed += 1;
            }
            let mut line = line.replace(folder, "[folder]");
            if let Some(real) = id(&line).map(str::to_owned) {
                line = line.replace(&real, ids.next().unwrap_or("00000000-0000-4000-8000-000000000000"));
            }
            for (real, shown) in &self.names {
                line = line.replace(real, shown);
            }
            text += &format!("{}\n", without_offset(&line));
        }
        notes.for_each(|(_, note)| text += &format!("{note}\n"));
        text
    }
}

/// Removes the code offset from a frame of a backtrace, because the offset is not always exact.
fn without_offset(line: &str) -> String {
    match line.split_once(" (wasm 0x") {
        Some((frame, offset)) if offset.ends_with(')') => format!("{frame} (wasm 0x...)"),
        _ => line.to_owned(),
    }
}

/// Fills the folder as the README assumes: the programs are in the path and in `target/release`.
fn furnish(bed: &Bed) {
    let folder = bed.folder();
    for place in ["bin", "target/release"] {
        fs::create_dir_all(folder.join(place)).unwrap();
        symlink(GVM, folder.join(place).join("gvm")).unwrap();
        symlink(GPMD, folder.join(place).join("gpmd")).unwrap();
    }
    fs::create_dir(folder.join("gvm-host")).unwrap();
    symlink(guests::repository().join("gvm-host/samples"), folder.join("gvm-host/samples")).unwrap();
    bed.write("math.wasm", wat::parse_file(guests::math()).unwrap());
    symlink(guests::values(), folder.join("values.wasm")).unwrap();
    symlink(guests::p1("args"), folder.join("args.wasm")).unwrap();
    for name in ["numbers", "hello", "unknown-import", "spin", "counter"] {
        symlink(guests::wat(name), folder.join(format!("{name}.wat"))).unwrap();
    }
    // The programs are already built, so `cargo` does nothing.
    stub(&folder.join("bin/cargo"));
}

fn stub(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Returns the node's name from the line that `gvm` prints when it starts.
fn created(line: &str) -> Option<&str> {
    line.strip_prefix(CREATED)?.split(' ').next()
}

/// Returns the first id in a line.
fn id(line: &str) -> Option<&str> {
    let is_id = |word: &&str| {
        let groups: Vec<usize> = word.split('-').map(str::len).collect();
        groups == [8, 4, 4, 4, 12] && word.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
    };
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).find(is_id)
}
