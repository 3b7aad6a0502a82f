//! The settings in the `config.toml` of a home.
//!
//! In: the file. Out: the settings, each with its line; or `SYNTAX` with the file and the line. Must not
//! know: flags and environment variables; what the settings do. The caller checks the values, and reports
//! errors by [`Setting::wrong`].

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use gvm_host::daemon::server::ChosenRelay;
use gvm_host::text::near;
use gvm_host::{Code, Error, Reason, Result};

/// The name of the file in the home.
pub const FILE: &str = "config.toml";

/// A larger file is refused.
const MOST_BYTES: u64 = 1 << 20;

/// The value of a setting, and its place in the file.
#[derive(Clone, Debug)]
pub struct Setting<T> {
    pub value: T,
    pub file: PathBuf,
    pub line: usize,
}

impl<T> Setting<T> {
    /// Returns the error of a value that is not valid.
    pub fn wrong(&self, key: &str, why: impl Display) -> Error {
        bad(&self.file, self.line, format_args!("{key}: {why}"))
    }
}

/// The settings of a home.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub name: Option<Setting<String>>,
    pub accept: Option<Setting<String>>,
    pub modules: Option<Setting<String>>,
    pub allow_call: Option<Setting<Vec<String>>>,
    pub session_time: Option<Setting<String>>,
    pub listen: Option<Setting<String>>,
    pub timeout: Option<Setting<String>>,
    pub max_memory: Option<Setting<String>>,
    pub max_output: Option<Setting<String>>,
    pub fuel: Option<Setting<u64>>,
    pub dir: Option<Setting<Vec<String>>>,
    pub env: Option<Setting<Vec<String>>>,
    pub config: Option<Setting<Vec<String>>>,
    pub allow_net: Option<Setting<Vec<String>>>,
    pub tls_ca: Option<Setting<String>>,
    pub grant: Option<Setting<Vec<String>>>,
    /// The settings of the daemon.
    pub gpmd: Daemon,
}

/// The settings of gpmd.
#[derive(Clone, Debug, Default)]
pub struct Daemon {
    pub listen: Option<Setting<IpAddr>>,
    pub port: Option<Setting<u16>>,
    pub command_port: Option<Setting<u16>>,
    pub mdns: Option<Setting<bool>>,
    pub relay: Option<Setting<ChosenRelay>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    name: Option<Spanned<String>>,
    accept: Option<Spanned<OneOrMany>>,
    modules: Option<Spanned<String>>,
    #[serde(default)]
    allow_call: Option<Spanned<Vec<String>>>,
    session_time: Option<Spanned<String>>,
    listen: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    max_memory: Option<Spanned<String>>,
    max_output: Option<Spanned<String>>,
    fuel: Option<Spanned<u64>>,
    dir: Option<Spanned<Vec<String>>>,
    env: Option<Spanned<Vec<String>>>,
    config: Option<Spanned<Vec<String>>>,
    allow_net: Option<Spanned<Vec<String>>>,
    tls_ca: Option<Spanned<String>>,
    grant: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    gpmd: DaemonFile,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct DaemonFile {
    listen: Option<Spanned<String>>,
    port: Option<Spanned<u16>>,
    command_port: Option<Spanned<u16>>,
    mdns: Option<Spanned<bool>>,
    relay: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string, or a list of names")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Settings {
    /// Reads the file in this home. Without a file, no setting is set.
    ///
    /// # Errors
    /// `SYNTAX` with the file and the line, if the file is not TOML, or has an unknown key or a value of the wrong type;
    /// `INTERNAL` if the file cannot be read.
    pub fn read(home: &Path) -> Result<Settings> {
        let path = home.join(FILE);
        let fail = |error: std::io::Error| Error::io(format_args!("cannot read {}", path.display()), error);
        match std::fs::metadata(&path) {
            // Opening the home reports that it does not exist.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Settings::default());
            }
            Ok(meta) if meta.len() > MOST_BYTES => {
                return Err(bad(&path, 1, format_args!("the file is larger than {} MiB", MOST_BYTES >> 20)));
            }
            Err(error) => return Err(fail(error)),
            Ok(_) => {}
        }
        Settings::parse(&std::fs::read_to_string(&path).map_err(fail)?, &path)
    }

    fn parse(text: &str, path: &Path) -> Result<Settings> {
        check_keys(text, path)?;
        let file: File = toml::from_str(text).map_err(|error| unreadable(&error, text, path))?;
        let at = Source { text, path };
        let accept = file.accept.map(|accept| {
            at.map(accept, |accept| match accept {
                OneOrMany::One(policy) => policy,
                OneOrMany::Many(names) => names.join(","),
            })
        });
        Ok(Settings {
            name: file.name.map(|setting| at.setting(setting)),
            accept,
            modules: file.modules.map(|setting| at.setting(setting)),
            allow_call: file.allow_call.map(|setting| at.setting(setting)),
            session_time: file.session_time.map(|setting| at.setting(setting)),
            listen: file.listen.map(|setting| at.setting(setting)),
            timeout: file.timeout.map(|setting| at.setting(setting)),
            max_memory: file.max_memory.map(|setting| at.setting(setting)),
            max_output: file.max_output.map(|setting| at.setting(setting)),
            fuel: file.fuel.map(|setting| at.setting(setting)),
            dir: file.dir.map(|setting| at.setting(setting)),
            env: file.env.map(|setting| at.setting(setting)),
            config: file.config.map(|setting| at.setting(setting)),
            allow_net: file.allow_net.map(|setting| at.setting(setting)),
            tls_ca: file.tls_ca.map(|setting| at.setting(setting)),
            grant: file.grant.map(|setting| at.setting(setting)),
            gpmd: Daemon {
                listen: file.gpmd.listen.map(|setting| at.address(setting)).transpose()?,
                port: file.gpmd.port.map(|setting| at.setting(setting)),
                command_port: file.gpmd.command_port.map(|setting| at.setting(setting)),
                mdns: file.gpmd.mdns.map(|setting| at.setting(setting)),
                relay: file.gpmd.relay.map(|setting| at.relay(setting)).transpose()?,
            },
        })
    }
}

/// The file of the settings.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Source<'_> {
    fn setting<T>(&self, spanned: Spanned<T>) -> Setting<T> {
        self.map(spanned, |value| value)
    }

    fn address(&self, spanned: Spanned<String>) -> Result<Setting<IpAddr>> {
        let Setting { value, file, line } = self.setting(spanned);
        match value.parse() {
            Ok(value) => Ok(Setting { value, file, line }),
            Err(error) => Err(bad(&file, line, format_args!("gpmd.listen: {value:?}: {error}"))),
        }
    }

    fn relay(&self, spanned: Spanned<String>) -> Result<Setting<ChosenRelay>> {
        let Setting { value, file, line } = self.setting(spanned);
        match value.parse() {
            Ok(value) => Ok(Setting { value, file, line }),
            Err(error) => Err(bad(&file, line, format_args!("gpmd.relay: {error}"))),
        }
    }

    fn map<T, U>(&self, spanned: Spanned<T>, with: impl FnOnce(T) -> U) -> Setting<U> {
        let line = line_of(self.text, spanned.span().start);
        Setting { value: with(spanned.into_inner()), file: self.path.to_owned(), line }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The keys of the file, and those of its section `gpmd`, as [`File`] and [`DaemonFile`] name them.
const KEYS: [&str; 17] = [
    "name",
    "accept",
    "modules",
    "allow-call",
    "session-time",
    "listen",
    "timeout",
    "max-memory",
    "max-output",
    "fuel",
    "dir",
    "env",
    "config",
    "allow-net",
    "tls-ca",
    "grant",
    "gpmd",
];
const DAEMON_KEYS: [&str; 5] = ["listen", "port", "command-port", "mdns", "relay"];

/// Checks that all keys are known, so that a misspelled key gets a suggestion.
fn check_keys(text: &str, path: &Path) -> Result<()> {
    let table = DeTable::parse(text).map_err(|error| unreadable(&error, text, path))?;
    check_table(table.get_ref(), &KEYS, text, path)?;
    match table.get_ref().get("gpmd").map(Spanned::get_ref) {
        Some(DeValue::Table(daemon)) => check_table(daemon, &DAEMON_KEYS, text, path),
        _ => Ok(()),
    }
}

fn check_table(table: &DeTable<'_>, known: &[&str], text: &str, path: &Path) -> Result<()> {
    let unknown = table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
    // The first one in the file.
    let Some(key) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
    let name = key.get_ref().as_ref();
    let near = near::suggestion(name, known.iter().copied());
    let error = bad(path, line_of(text, key.span().start), format_args!("unknown setting `{name}`{near}"));
    Err(match near.is_empty() {
        true => error.with_help(format!("use one of the settings {}", known.join(", "))),
        false => error,
    })
}

fn unreadable(error: &toml::de::Error, text: &str, path: &Path) -> Error {
    bad(path, error.span().map_or(1, |span| line_of(text, span.start)), error.message())
}

fn bad(path: &Path, line: usize, why: impl Display) -> Error {
    Error::new(Code::Syntax, format!("{}, line {line}: {why}", path.display()))
        .with_help("correct the line, or remove it to use the default")
        .with_reason(Reason::Settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings> {
        Settings::parse(text, Path::new("/home/config.toml"))
    }

    /// serde lists the keys that it knows when it refuses one.
    #[test]
    fn the_keys_are_those_of_the_file() {
        for (text, keys) in [("no-such-key = 1", &KEYS[..]), ("[gpmd]\nno-such-key = 1", &DAEMON_KEYS[..])] {
            let refused = toml::from_str::<File>(text).err().unwrap();
            let listed: Vec<&str> = refused.message().split('`').skip(3).step_by(2).collect();
            assert_eq!(listed, keys);
        }
    }

    #[test]
    fn what_is_said_is_read() {
        let settings = read(
            "name = \"kitchen\"\naccept = [\"a\", \"b\"]\nallow-call = [\"math.*\"]\ntimeout = \"2s\"\nfuel = 7\n\
             dir = [\"/data::data::ro\"]\n\n[gpmd]\nport = 6000\n",
        )
        .unwrap();
        assert_eq!(settings.name.unwrap().value, "kitchen");
        assert_eq!(settings.accept.unwrap().value, "a,b");
        assert_eq!(settings.allow_call.unwrap().value, ["math.*"]);
        assert_eq!(settings.fuel.unwrap().value, 7);
        assert_eq!(settings.gpmd.port.unwrap().value, 6000);
        assert!(settings.listen.is_none());
        let accept = read("accept = \"ask\"").unwrap().accept.unwrap();
        assert_eq!(accept.value, "ask");
        let error = accept.wrong("accept", "why");
        assert!(error.message().starts_with("/home/config.toml, line 1: accept: why"), "{error}");
    }

    #[test]
    fn mistakes_name_the_file_the_line_and_the_way_out() {
        let default = "correct the line, or remove it to use the default";
        for (text, words) in [
            ("\nacept = \"all\"", &["line 2", "unknown setting `acept`: did you mean `accept`"][..]),
            ("zzz = 1", &["line 1", "unknown setting `zzz`"]),
            ("name = \"a\"\ntimeout = 2", &["line 2", "string"]),
            ("[gpmd]\nport = 70000", &["line 2", "u16"]),
            ("[gpmd]\nprt = 7", &["line 2", "did you mean `port`"]),
            ("name = ", &["line 1"]),
            ("[gpmd]\nlisten = \"here\"", &["line 2", "gpmd.listen", "invalid IP address"]),
            ("accept = 3", &["line 1", "a string, or a list of names"]),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code(), Code::Syntax);
            let words = [words, &["/home/config.toml"]].concat();
            assert!(words.iter().all(|word| error.message().contains(word)), "{text:?}: {error}");
            let help = error.help().unwrap();
            match text {
                "zzz = 1" => assert!(help.starts_with("use one of the settings name, accept, "), "{help}"),
                _ => assert_eq!(help, default, "{text:?}"),
            }
        }
    }
}
