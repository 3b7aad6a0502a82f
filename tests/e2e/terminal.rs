//! A program in a pseudo terminal, and the screen that a person would see.
//!
//! In: keys. Out: the screen's text. It answers the program's requests for the cursor position, as a terminal
//! does. Must not know: which program it shows.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::Pid;

use crate::process::{DEADLINE, wait_for};

const ROWS: u16 = 400;
const COLUMNS: u16 = 160;

/// The escape sequence with which a program requests the cursor position.
const WHERE: &[u8] = b"\x1b[6n";

pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    keys: Arc<Mutex<Box<dyn Write + Send>>>,
    shown: Arc<Shown>,
    _pty: Box<dyn MasterPty + Send>,
}

struct Shown {
    parser: Mutex<vt100::Parser>,
    changed: Condvar,
}

impl Terminal {
    /// Starts a program in a terminal that is so tall that nothing scrolls off the screen.
    pub fn open(program: &str, args: &[&str], env: &[(&str, &str)], folder: &Path) -> Terminal {
        Terminal::sized((ROWS, COLUMNS), program, args, env, folder)
    }

    /// Starts a program in a terminal with this number of rows and columns.
    pub fn sized(
        (rows, cols): (u16, u16),
        program: &str,
        args: &[&str],
        env: &[(&str, &str)],
        folder: &Path,
    ) -> Terminal {
        let size = PtySize { rows, cols, pixel_width: 0, pixel_height: 0 };
        let pty = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(args);
        command.cwd(folder);
        for name in ["GHOST_HOME", "RUST_LOG", "RUST_BACKTRACE", "PROMPT_COMMAND", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm-256color");
        // Many daemons run at the same time, so each uses free ports.
        command.env("GPMD_PORT", "0");
        command.env("GPMD_COMMAND_PORT", "0");
        env.iter().for_each(|(name, value)| command.env(name, value));
        let child = pty.slave.spawn_command(command).unwrap();
        drop(pty.slave);
        let keys = Arc::new(Mutex::new(pty.master.take_writer().unwrap()));
        let shown = Arc::new(Shown {
            parser: Mutex::new(vt100::Parser::new(rows, cols, 0)),
            changed: Condvar::new(),
        });
        let reader = pty.master.try_clone_reader().unwrap();
        let (to, answers) = (shown.clone(), keys.clone());
        std::thread::spawn(move || show(reader, &to, &answers));
        Terminal { child, keys, shown, _pty: pty.master }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.process_id().unwrap().try_into().unwrap()).unwrap()
    }

    pub fn press(&self, keys: &str) {
        let mut to = self.keys.lock().unwrap();
        to.write_all(keys.as_bytes()).and_then(|()| to.flush()).unwrap();
    }

    pub fn enter(&self, line: &str) {
        self.press(&format!("{line}\r"));
    }

    /// Waits until the program ends; returns its exit status.
    #[track_caller]
    pub fn end(mut self) -> u32 {
        wait_for("the program has ended", || self.child.try_wait().unwrap()).exit_code()
    }

    /// Returns the screen's lines without trailing spaces.
    pub fn lines(&self) -> Vec<String> {
        lines(self.shown.parser.lock().unwrap().screen())
    }

    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits until `look` finds a value on the screen, and returns that value.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, look: impl Fn(&vt100::Screen) -> Option<T>) -> T {
        let started = Instant::now();
        let mut parser = self.shown.parser.lock().unwrap();
        loop {
            if let Some(found) = look(parser.screen()) {
                return found;
            }
            let left = DEADLINE.checked_sub(started.elapsed());
            let Some(left) = left else {
                let text = lines(parser.screen()).join("\n");
                drop(parser);
                panic!("the terminal does not show {what}:\n{text}");
            };
            parser = self.shown.changed.wait_timeout(parser, left).unwrap().0;
        }
    }

    /// Returns whether anything on the screen has a colour.
    pub fn is_coloured(&self) -> bool {
        let parser = self.shown.parser.lock().unwrap();
        let screen = parser.screen();
        let (rows, columns) = screen.size();
        let mut places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        places.any(|(row, column)| {
            let cell = screen.cell(row, column).unwrap();
            cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default
        })
    }

    #[track_caller]
    pub fn wait_for_text(&self, text: &str) {
        self.wait(&format!("{text:?}"), |screen| screen.contents().contains(text).then_some(()));
    }

    /// Waits until the cursor's line, below this row, is a prompt; returns its row and text.
    #[track_caller]
    pub fn wait_for_prompt(&self, below: Option<usize>, is_prompt: impl Fn(&str) -> bool) -> (usize, String) {
        self.wait("a prompt", |screen| {
            let (row, text) = at_cursor(screen);
            let new = below.is_none_or(|below| row > below);
            (new && is_prompt(&text)).then_some((row, text))
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn show(mut from: Box<dyn Read + Send>, to: &Shown, answers: &Mutex<Box<dyn Write + Send>>) {
    let mut buffer = vec![0; 64 << 10];
    let mut kept = Vec::new();
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        while let Some(at) = kept.windows(WHERE.len()).position(|bytes| bytes == WHERE) {
            let rest = kept.split_off(at + WHERE.len());
            let (row, column) = {
                let mut parser = to.parser.lock().unwrap();
                parser.process(&kept[..at]);
                parser.screen().cursor_position()
            };
            kept = rest;
            let answer = format!("\x1b[{};{}R", row + 1, column + 1);
            let _ = answers.lock().unwrap().write_all(answer.as_bytes());
        }
        // A read may end within a request; the rest of the request comes with the next read.
        let cut = (1..WHERE.len()).rev().find(|length| kept.ends_with(&WHERE[..*length])).unwrap_or(0);
        let rest = kept.split_off(kept.len() - cut);
        to.parser.lock().unwrap().process(&kept);
        kept = rest;
        to.changed.notify_all();
    }
}

fn lines(screen: &vt100::Screen) -> Vec<String> {
    let mut lines: Vec<String> =
        screen.rows(0, screen.size().1).map(|row| row.trim_end().to_owned()).collect();
    let used = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    lines.truncate(used);
    lines
}

fn at_cursor(screen: &vt100::Screen) -> (usize, String) {
    let row = usize::from(screen.cursor_position().0);
    (row, screen.rows(0, screen.size().1).nth(row).unwrap_or_default().trim_end().to_owned())
}
