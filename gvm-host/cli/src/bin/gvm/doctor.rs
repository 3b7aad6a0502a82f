//! `gvm doctor`: shows the findings of the checks.
//!
//! In: options, the settings of the home. Out: findings as text or JSON, an exit status. Must not know: how
//! the checks work.

use gvm_cli::doctor;
use gvm_cli::doctor::{Commands, Finding, Setup, State};
use gvm_cli::repl::render::Screen;
use gvm_cli::settings::Settings;
use gvm_host::daemon::server::{COMMAND_PORT, NODE_PORT, Ports};
use gvm_host::text::quote;
use gvm_host::{Compiler, Result};
use nu_ansi_term::{Color, Style};

use super::options::{Options, as_usage};

/// Checks every layer and shows the findings. Returns status 1 if a check fails.
pub fn doctor(options: &Options, screen: &mut Screen, node: Option<&str>) -> Result<i32> {
    let findings = doctor::examine(&setup(options, node)?);
    let ok = findings.iter().all(|finding| finding.state == State::Ok);
    if options.json {
        let checks: Vec<_> = findings.iter().map(Finding::json).collect();
        screen.json(&serde_json::json!({ "ok": ok, "checks": checks }));
    } else {
        let colour = screen.colour && screen.stdout_terminal;
        findings.iter().for_each(|finding| screen.line(&line(finding, colour)));
        let failed = findings.iter().filter(|finding| finding.state == State::Failed).count();
        screen.line(&match failed {
            0 => "All checks passed.".to_owned(),
            1 => "1 check failed.".to_owned(),
            count => format!("{count} checks failed."),
        });
    }
    Ok(i32::from(!ok))
}

fn setup(options: &Options, node: Option<&str>) -> Result<Setup> {
    let home = options.home_path()?;
    // The options of `gvm` itself, but not the name and address in the settings: a running node may have them.
    let mut own = options.clone();
    let settings = own.settle(false).and_then(|()| usable(options));
    Ok(Setup {
        node: node.map(str::parse).transpose().map_err(as_usage)?,
        gpmd: options.gpmd()?,
        ports: ports(options),
        compiler: Compiler::current()?,
        commands: commands(options),
        config: Box::new(move |home| own.node_config(home, false)),
        home,
        settings,
    })
}

/// Checks the settings that a short command does not use: the name and address of the node that the user
/// keeps running.
fn usable(options: &Options) -> Result<()> {
    let mut named = options.clone();
    named.settle(true)?;
    let settings = Settings::read(&options.home_path()?)?;
    let Some(listen) = settings.listen.filter(|_| options.listen.is_none()) else { return Ok(()) };
    let at = named.listening()?;
    // A running node may use the port, so only the address is checked.
    match std::net::TcpListener::bind((at.ip(), 0)) {
        Err(error) => Err(listen.wrong("listen", format_args!("cannot listen on {}: {error}", at.ip()))),
        Ok(_) => Ok(()),
    }
}

/// Returns the ports that `gpmd start` would use, from the same sources.
fn ports(options: &Options) -> Ports {
    let told = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let settings = options.home_path().and_then(|home| Settings::read(&home)).unwrap_or_default().gpmd;
    Ports {
        listen: settings.listen.map_or(Ports::default().listen, |listen| listen.value),
        nodes: told("GPMD_PORT").or(settings.port.map(|port| port.value)).unwrap_or(NODE_PORT),
        commands: told("GPMD_COMMAND_PORT")
            .or(settings.command_port.map(|port| port.value))
            .unwrap_or(COMMAND_PORT),
    }
}

/// Returns the commands to suggest. They need `--home` if the user chose the home by this flag.
fn commands(options: &Options) -> Commands {
    let told = std::env::var_os("GHOST_HOME").map(std::path::PathBuf::from);
    let home = match &options.home {
        Some(home) if told.as_ref() != Some(home) => format!(" --home {}", quote::path(home)),
        _ => String::new(),
    };
    Commands { gpmd: format!("gpmd{home}"), gvm: format!("gvm{home}") }
}

fn line(finding: &Finding, colour: bool) -> String {
    let (mark, style) = match finding.state {
        State::Ok => ("ok", Style::new().fg(Color::Green)),
        State::Failed => ("FAILS", Style::new().fg(Color::Red).bold()),
        State::Skipped => ("-", Style::new()),
    };
    let mark = format!("{mark:5}");
    let mark = if colour { style.paint(mark).to_string() } else { mark };
    let mut line = format!("{mark}  {:8}  {}", finding.layer, finding.message);
    if let Some(fix) = &finding.fix {
        line += &format!("\n                 fix: {fix}");
    }
    line
}
