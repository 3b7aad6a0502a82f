//! The commands about the network of devices: invite, join, list, remove, leave.
//!
//! In: arguments. Out: text or JSON about the network. Must not know: how devices prove who they are and find each other.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use gvm_host::gpmd::network::{DeviceStatus, Invitation, Invited, Joined, NetworkStatus};
use gvm_host::roster::Role;
use gvm_host::{Code, Error, Home, Result};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;

use crate::args::{Args, Command, Invitations, InvitedRole, as_usage};
use crate::{output, start};

/// The groups of a device's id in the list, enough to compare by eye.
const GROUPS: usize = 3;

/// Runs one of the commands.
pub fn run(args: &Args, home: &Home) -> Result<()> {
    match &args.command {
        Command::Invite { expires, role, name, qr } => {
            invite(args, home, expires, *role, name.as_deref(), *qr)
        }
        Command::Invitations { command: None } => invitations(args, home),
        Command::Invitations { command: Some(Invitations::Revoke { id }) } => revoke(args, home, id),
        Command::Join { line } => join(args, home, line),
        Command::Devices => devices(args, home),
        Command::Remove { device } => remove(args, home, device),
        Command::Leave => leave(args, home),
        _ => Ok(()),
    }
}

fn invite(
    args: &Args,
    home: &Home,
    expires: &str,
    role: InvitedRole,
    name: Option<&str>,
    qr: bool,
) -> Result<()> {
    let time = humantime::parse_duration(expires).map_err(|error| {
        let error = Error::new(Code::Syntax, format!("`{expires}` is not a time: {error}"));
        as_usage(error.with_help("write it as `10m`, `90s` or `2h`"))
    })?;
    let name = name.map(|name| name.parse().map_err(as_usage)).transpose()?;
    let role = match role {
        InvitedRole::Member => Role::Member,
        InvitedRole::Guest => Role::Guest,
    };
    if args.gpmd.is_none() {
        start::ensure(args, home)?;
    }
    let invited = args.control(home)?.invite(time, role, name.as_ref())?;
    if args.json {
        output::print(&output::json(&invited)?);
        return Ok(());
    }
    let Invited { line, listens, .. } = &invited;
    let mut text = format!("Devices on this network can now reach this one on {listens}.\n");
    let _ = writeln!(text, "On the other device, within {}, run:\n  gpmd join {line}", words(time));
    output::print(&text);
    if qr {
        output::print(&code(line, std::io::stdout().is_terminal())?);
    }
    Ok(())
}

/// Returns a QR code of the line. On a terminal it is light on dark, which most terminals are.
fn code(line: &str, is_terminal: bool) -> Result<String> {
    let code =
        QrCode::new(line).map_err(|error| Error::internal(format!("cannot draw a QR code: {error}")))?;
    let mut drawn = code.render::<Dense1x2>();
    if is_terminal {
        drawn.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
    }
    Ok(drawn.build() + "\n")
}

/// Returns a time in words: `10 minutes`.
fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let whole = units.into_iter().find(|(unit, _)| seconds != 0 && seconds.is_multiple_of(*unit));
    let (length, unit) = whole.unwrap_or((1, "second"));
    let count = seconds / length;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn invitations(args: &Args, home: &Home) -> Result<()> {
    let open = args.control(home)?.invitations()?;
    if args.json {
        output::print(&output::json(&open)?);
        return Ok(());
    }
    if open.is_empty() {
        output::print("No invitation is open.\n");
        return Ok(());
    }
    let row = |invitation: &Invitation| {
        let Invitation { id, role, name, expires_ms } = invitation;
        let name = name.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        [id.clone(), role.to_string(), name, output::time(*expires_ms)]
    };
    let rows: Vec<_> = open.iter().map(row).collect();
    output::print(&table(["id", "role", "name", "expires"], &rows));
    Ok(())
}

fn revoke(args: &Args, home: &Home, id: &str) -> Result<()> {
    let id = args.control(home)?.revoke(id)?;
    output::print(&match args.json {
        true => output::json(&json!({ "revoked": id }))?,
        false => format!("Revoked the invitation {id}.\n"),
    });
    Ok(())
}

fn join(args: &Args, home: &Home, line: &str) -> Result<()> {
    if args.gpmd.is_none() {
        start::ensure(args, home)?;
    }
    let joined = args.control(home)?.join(line)?;
    let Joined { inviter, name, devices } = &joined;
    output::print(&match args.json {
        true => output::json(&joined)?,
        false => format!("Joined the network of {inviter} as {name} ({devices} devices).\n"),
    });
    Ok(())
}

fn devices(args: &Args, home: &Home) -> Result<()> {
    let network = args.control(home)?.devices()?;
    output::print(&if args.json { output::json(&network)? } else { shown(&network) });
    Ok(())
}

/// Returns the devices as text.
fn shown(network: &NetworkStatus) -> String {
    if network.removed {
        return "This device was removed from its network.\n\
                Run `gpmd leave` to begin a network of its own, or `gpmd join LINE` to join one again.\n"
            .to_owned();
    }
    let titles = ["name", "id", "role", "state", "address", "transport", "round trip", "nodes", "version"];
    let rows: Vec<_> = network.devices.iter().map(row).collect();
    let mut text = table(titles, &rows);
    for device in &network.devices {
        if let Some(problem) = &device.problem {
            let _ = writeln!(text, "{}: {problem}", device.name);
        }
    }
    text
}

fn row(device: &DeviceStatus) -> [String; 9] {
    let DeviceStatus { name, id, own, role, up, since_ms, round_trip, nodes, .. } = device;
    let state = match (own, up) {
        (true, _) => "this device",
        (false, true) => "up",
        (false, false) => "down",
    };
    let id = id.to_string().split('-').take(GROUPS).collect::<Vec<_>>().join("-");
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let trip = round_trip.map_or_else(|| "-".to_owned(), |micros| format!("{:.1} ms", micros as f64 / 1e3));
    [
        name.to_string(),
        id,
        role.to_string(),
        format!("{state} since {}", output::time(*since_ms)),
        optional(&device.address),
        optional(&device.transport),
        trip,
        nodes.to_string(),
        optional(&device.version),
    ]
}

/// Returns rows under their titles, in columns.
fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([titles[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    line(titles.to_vec()) + &rows.collect::<String>()
}

fn remove(args: &Args, home: &Home, device: &str) -> Result<()> {
    let name = args.control(home)?.remove_device(device)?;
    output::print(&match args.json {
        true => output::json(&json!({ "removed": name }))?,
        false => format!("Removed {name} from the network.\n"),
    });
    Ok(())
}

fn leave(args: &Args, home: &Home) -> Result<()> {
    let told = args.control(home)?.leave()?;
    if args.json {
        return output::json(&json!({ "told": told })).map(|text| output::print(&text));
    }
    let mut text = "Left the network. This device has a new key.\n".to_owned();
    if told.is_empty() {
        text += "No other device was connected: run `gpmd remove` on one of them, or they list this one as down.\n";
    }
    output::print(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_words() {
        for (seconds, text) in
            [(600, "10 minutes"), (60, "1 minute"), (90, "90 seconds"), (7200, "2 hours"), (86_400, "1 day")]
        {
            assert_eq!(words(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows = [["laptop".to_owned(), "up".to_owned()], ["pi".to_owned(), "down".to_owned()]];
        assert_eq!(table(["name", "state"], &rows), "name    state\nlaptop  up\npi      down\n");
    }

    #[test]
    fn a_line_fits_into_a_code() {
        let line = format!("gvm-join:{}", "A".repeat(300));
        assert!(code(&line, false).unwrap().lines().count() < 50);
    }
}
