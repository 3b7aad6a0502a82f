//! `gvm doctor`: the findings, for people and programs.

use gvm_cli::doctor;
use gvm_cli::doctor::{Commands, Finding, Patient, State};
use gvm_cli::repl::render::Screen;
use gvm_cli::settings::Settings;
use gvm_host::Compiler;
use gvm_host::Result;
use gvm_host::daemon::server::{COMMAND_PORT, NODE_PORT, Ports};
use gvm_host::text::quote;
use nu_ansi_term::{Color, Style};

use super::options::{Options, as_usage};

/// Looks at every layer, shows what was found; 1 where something fails.
pub fn doctor(options: &Options, screen: &mut Screen, node: Option<&str>) -> Result<i32> {
    let findings = doctor::examine(&patient(options, node)?);
    let well = findings.iter().all(|finding| finding.state == State::Well);
    if options.json {
        let checks: Vec<_> = findings.iter().map(Finding::json).collect();
        screen.json(&serde_json::json!({ "ok": well, "checks": checks }));
    } else {
        let colour = screen.colour && screen.stdout_terminal;
        findings.iter().for_each(|finding| screen.line(&line(finding, colour)));
        screen.line(if well { "All is well." } else { "Something fails: see what fixes it." });
    }
    Ok(i32::from(!well))
}

fn patient(options: &Options, node: Option<&str>) -> Result<Patient> {
    let home = options.home_path()?;
    // As `gvm` itself would be started, but for the name that the one that stays may have.
    let mut own = options.clone();
    let settings = own.settle(false).and_then(|()| usable(options));
    Ok(Patient {
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

/// Whether the settings that a command does not take can be used by the node that stays.
fn usable(options: &Options) -> Result<()> {
    let mut named = options.clone();
    named.settle(true)?;
    let settings = Settings::read(&options.home_path()?)?;
    let Some(listen) = settings.listen.filter(|_| options.listen.is_none()) else { return Ok(()) };
    let at = named.listening()?;
    // The port may be that of the node that stays; the address must be this device's.
    match std::net::TcpListener::bind((at.ip(), 0)) {
        Err(error) => Err(listen.wrong("listen", format_args!("{} cannot be listened at: {error}", at.ip()))),
        Ok(_) => Ok(()),
    }
}

/// The ports that `gpmd start` would take, as it finds them.
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

/// A home that a flag chose must be chosen by a flag again.
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
        State::Well => ("ok", Style::new().fg(Color::Green)),
        State::Failing => ("FAILS", Style::new().fg(Color::Red).bold()),
        State::Skipped => ("-", Style::new()),
    };
    let mark = format!("{mark:5}");
    let mark = if colour { style.paint(mark).to_string() } else { mark };
    let mut line = format!("{mark}  {:8}  {}", finding.layer, finding.words);
    if let Some(fix) = &finding.fix {
        line += &format!("\n                 fix: {fix}");
    }
    line
}
