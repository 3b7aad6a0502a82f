//! `gvm doctor`: the findings, for people and programs.

use gvm_host::doctor::{self, Finding, Patient, State};
use gvm_host::error::Result;
use gvm_host::repl::render::Screen;
use nu_ansi_term::{Color, Style};

use super::options::{Options, as_usage};

/// Looks at every layer, shows what was found; 1 where something fails.
pub fn doctor(options: &Options, screen: &mut Screen, node: Option<&str>) -> Result<i32> {
    let home = options.home_path()?;
    let node = node.map(str::parse).transpose().map_err(as_usage)?;
    let settings = Options { name: None, ..options.clone() }.settle(false);
    let (own, pooling) = (options.clone(), false);
    let engine = Box::new(move |home: &_| own.engine(home, pooling));
    let findings = doctor::examine(&Patient { home, node, engine }, settings);
    let well = findings.iter().all(|finding| finding.state == State::Well);
    if options.json {
        let checks: Vec<_> = findings.iter().map(Finding::json).collect();
        screen.line(&serde_json::json!({ "ok": well, "checks": checks }).to_string());
    } else {
        let colour = screen.colour && screen.stdout_terminal;
        findings.iter().for_each(|finding| screen.line(&line(finding, colour)));
        screen.line(if well { "All is well." } else { "Something fails: see what mends it." });
    }
    Ok(i32::from(!well))
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
    if let Some(mend) = &finding.mend {
        line += &format!("\n                 mend: {mend}");
    }
    line
}
