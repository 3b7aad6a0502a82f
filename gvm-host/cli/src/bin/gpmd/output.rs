//! The output of `gpmd`.
//!
//! In: results, errors. Out: text and JSON on standard output; errors and logs on standard error; the log
//! file. Must not know: how commands get their results.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use gvm_cli::repl::{point, render, stdio};
use gvm_host::gpmd::control::Status;
use gvm_host::text::inert;
use gvm_host::{Error, Result, Stream};
use tracing_subscriber::EnvFilter;

use crate::log::Rotating;

/// Writes to standard output. The program reports a failure when it exits: see [`stdio::settle`].
pub fn print(text: &str) {
    // The authors of modules choose their names and WIT: these must not control the terminal.
    if let Err(error) = stdio::write(Stream::Stdout, inert::lines(text).as_bytes()) {
        tracing::debug!("cannot write to standard output: {error}");
    }
}

/// Writes an error to standard error; on a terminal, long lines of its context are cut to fit.
pub fn error(error: &Error) {
    if stdio::is_cut(error) {
        return;
    }
    let text = error.to_string();
    let text = if std::io::stderr().is_terminal() { point::fit(&text, render::columns()) } else { text };
    let _ = stdio::write(Stream::Stderr, format!("{text}\n").as_bytes());
}

/// Returns the value as indented JSON and a line feed.
pub fn json(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| inert::json(&text).into_owned() + "\n")
        .map_err(|error| Error::internal(format!("cannot write the result as JSON: {error}")))
}

/// Returns the status as text.
pub fn status(status: &Status) -> String {
    let mut text = String::new();
    let since = time(status.since_ms);
    let _ = writeln!(text, "gpmd {} is running (process {}) since {since}", status.version, status.pid);
    let _ = writeln!(text, "  home      {}", status.home);
    let _ = writeln!(text, "  nodes     {}  {}", status.address, status.socket);
    let _ = writeln!(text, "  commands  {}  {}", status.command_address, status.command_socket);
    let _ = writeln!(text, "  modules   {}", status.modules);
    if !status.nodes.is_empty() {
        let width = status.nodes.iter().map(|node| node.name.as_str().len()).max().unwrap_or(0);
        let _ = writeln!(text, "\nLive nodes:");
        for node in &status.nodes {
            let _ = writeln!(text, "  {:width$}  {}  since {}", node.name, node.id, time(node.since_ms));
        }
    }
    text
}

/// Logs to standard error; a daemon logs the time too.
pub fn log_to_stderr(verbose: u8, daemon: bool) {
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter(verbose, daemon)).with_writer(std::io::stderr);
    let logs = logs.with_ansi(false);
    let _ = if daemon { logs.try_init() } else { logs.without_time().try_init() };
}

/// Logs to the daemon's file, including panics: its standard error is not visible.
pub fn log_to_file(verbose: u8, log: Rotating) {
    let logs = tracing_subscriber::fmt().with_env_filter(filter(verbose, true)).with_ansi(false);
    // On a full disk, lines are lost. A message about that on standard error, which nobody reads, would panic.
    let logs = logs.log_internal_errors(false);
    let _ = logs.with_writer(Mutex::new(log)).try_init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

fn filter(verbose: u8, daemon: bool) -> EnvFilter {
    let level = match (verbose, daemon) {
        // A relay has strangers at its port, whose mistakes are errors to the library.
        (0, false) => "error,iroh_relay=off",
        (0, true) => "gvm_host=info,gpmd=info,warn",
        (1, false) => "gvm_host=info,gpmd=info,warn",
        (1, true) => "gvm_host=debug,gpmd=debug,warn",
        _ => "gvm_host=trace,gpmd=trace,debug",
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level))
}

/// Returns a time in milliseconds since 1970 as people read it.
pub fn time(ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    match UNIX_EPOCH.checked_add(since) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => "?".into(),
    }
}
