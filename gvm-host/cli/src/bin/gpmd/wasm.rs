//! `gpmd wasm`: upload, list, show, download, remove and pin modules.
//!
//! In: a name, a version, a file. Out: the stored module, or text, JSON or a file about it. Must not know:
//! how gpmd stores modules. Commands that only read do not need gpmd, except for another device.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;

use gvm_cli::repl::listing;
use gvm_cli::repl::progress::{Progress, during};
use gvm_cli::repl::render;
use gvm_cli::repl::stdio;
use gvm_host::gpmd::control::{Control, Uploaded};
use gvm_host::index::{Index, Module, Resolved};
use gvm_host::inspect::{inspect, runnable, to_binary};
use gvm_host::store::{read_index, read_module, read_source};
use gvm_host::system::durable;
use gvm_host::text::inert;
use gvm_host::{Hash, Home, Name, Result, Stream, limits, offered, parse_version};
use semver::Version;
use serde_json::json;

use crate::args::{Args, Wasm, as_usage};
use crate::output;

/// Runs one of the commands.
pub fn run(command: &Wasm, args: &Args, home: &Home) -> Result<()> {
    let json = args.json;
    let control = || args.control(home);
    match command {
        Wasm::Upload { name, version, file } => upload(control, name, version, file, json),
        Wasm::List { network: false } => list(&[(None, Stored::of(args, home)?.index()?)], json),
        Wasm::List { network: true } => list(&all_devices(args, home)?, json),
        Wasm::Show { module, version } => show(&Stored::of(args, home)?, module, version.as_deref(), json),
        Wasm::Get { module, version, out } => {
            get(&Stored::of(args, home)?, module, version.as_deref(), out.as_deref(), json)
        }
        Wasm::Remove { module, version } => remove(control, module, version.as_deref(), json),
        Wasm::Pin { module, version } => pin(control, module, version.as_deref(), json),
    }
}

/// The modules of a device.
enum Stored<'a> {
    /// Read from the home, without gpmd.
    Own(&'a Home),
    Other(Box<Control>),
}

impl Stored<'_> {
    fn of<'a>(args: &Args, home: &'a Home) -> Result<Stored<'a>> {
        match args.on {
            Some(_) => Ok(Stored::Other(Box::new(args.control(home)?))),
            None => Ok(Stored::Own(home)),
        }
    }

    fn index(&self) -> Result<Index> {
        match self {
            Stored::Own(home) => read_index(home),
            Stored::Other(control) => control.index(),
        }
    }

    fn module(&self, hash: Hash) -> Result<Vec<u8>> {
        match self {
            Stored::Own(home) => read_module(home, hash),
            Stored::Other(control) => control.module(hash),
        }
    }
}

fn upload(
    control: impl Fn() -> Result<Control>,
    name: &str,
    version: &str,
    file: &Path,
    json: bool,
) -> Result<()> {
    let name: Name = name.parse().map_err(as_usage)?;
    let version = parse_version(version).map_err(as_usage)?;
    let control = control()?;
    let bytes = read_source(file, &mut stdio::Stdin)?;
    // Checked before the upload: after it, the command must not fail.
    let wanting = runnable(&to_binary(&bytes)?)?;
    let mut progress = Progress::on_stderr();
    let (all, what) = (bytes.len() as u64, format!("Uploading {name}"));
    let uploaded =
        control.upload(&name, &version, &bytes, &mut |done| progress.bytes(what.clone(), done, all));
    drop(progress);
    let Uploaded { entry, created } = uploaded?;
    let missing = offered::missing(&wanting);
    if json {
        let mut value = listing::to_json(&Resolved { name: &name, version: &version, entry: &entry });
        value["created"] = created.into();
        value["unsatisfied"] = missing.into();
        output::print(&output::json(&value)?);
        return Ok(());
    }
    let mut text = String::new();
    if std::io::stdout().is_terminal() {
        let _ = writeln!(text, "{name} {version}: {}, {}", entry.kind.as_str(), limits::bytes(entry.size));
        for export in &entry.exports {
            let _ = writeln!(text, "  {}", entry.types.shown(&inert::line(export)));
        }
    }
    output::print(&(text + "Module Uploaded Successfully!\n"));
    if let Err(error) = offered::check(&wanting) {
        let help = error.help().map_or_else(String::new, |help| format!("\nhelp: {help}"));
        render::note(&format!("warning: {name} cannot run here: {}{help}", error.message()));
    }
    Ok(())
}

/// Returns the modules of every device of the network that is up, this one first.
fn all_devices(args: &Args, home: &Home) -> Result<Vec<(Option<Name>, Index)>> {
    let status = args.control(home)?.devices()?;
    let mut all = Vec::new();
    for device in status.devices.into_iter().filter(|device| device.own || device.up) {
        let index = match device.own {
            true => read_index(home)?,
            false => args.control(home)?.on(device.name.as_str())?.index()?,
        };
        all.push((device.own, Some(device.name), index));
    }
    all.sort_by_key(|(own, ..)| !*own);
    Ok(all.into_iter().map(|(_, name, index)| (name, index)).collect())
}

/// Lists the modules of devices; without a name, of the one that was asked.
fn list(devices: &[(Option<Name>, Index)], json: bool) -> Result<()> {
    let entries = devices.iter().flat_map(|(device, index)| {
        index
            .entries()
            .map(move |resolved| (device, index.modules.get(resolved.name).map(|module| &**module), resolved))
    });
    let is_pinned = |module: Option<&Module>, version: &Version| {
        module.is_some_and(|module| module.pinned.as_ref() == Some(version))
    };
    if json {
        let mut all = Vec::new();
        for (device, module, resolved) in entries {
            let mut value = listing::to_json(&resolved);
            let chosen = module.and_then(Module::chosen);
            value["chosen"] = chosen.is_some_and(|(version, _)| version == resolved.version).into();
            value["pinned"] = is_pinned(module, resolved.version).into();
            if let Some(device) = device {
                value["device"] = device.as_str().into();
            }
            all.push(value);
        }
        output::print(&output::json(&all)?);
        return Ok(());
    }
    let rows: Vec<_> = entries
        .map(|(device, module, resolved)| {
            let device = device.iter().map(|device| format!("on {device}"));
            let pinned = is_pinned(module, resolved.version).then(|| "pinned".to_owned());
            let mark = device.chain(pinned).collect::<Vec<_>>().join("  ");
            (resolved, mark)
        })
        .collect();
    output::print(&listing::table(&rows).into_iter().map(|line| line + "\n").collect::<String>());
    Ok(())
}

fn show(stored: &Stored<'_>, module: &str, version: Option<&str>, json: bool) -> Result<()> {
    let index = stored.index()?;
    let (name, version) = named(module, version)?;
    let resolved = index.resolve(name, version.as_ref())?;
    let info = inspect(&stored.module(resolved.entry.sha256)?)?;
    if json {
        let mut value = listing::to_json(&resolved);
        value["imports"] = info.imports.into();
        value["wit"] = info.wit.into();
        output::print(&output::json(&value)?);
        return Ok(());
    }
    let Resolved { name, version, entry } = resolved;
    let mut text = String::new();
    let _ = writeln!(text, "{name} {version}");
    let _ = writeln!(text, "  kind      {}", entry.kind.as_str());
    let _ = writeln!(text, "  size      {}", limits::bytes(entry.size));
    let _ = writeln!(text, "  sha256    {}", entry.sha256);
    let _ = writeln!(text, "  uploaded  {}", entry.uploaded);
    let _ = writeln!(text, "  main      {}", if entry.main { "yes" } else { "no" });
    let exports = entry.exports.iter().map(|export| entry.types.shown(&inert::line(export))).collect();
    let imports: Vec<String> = info.imports.iter().map(|import| inert::line(import).into_owned()).collect();
    for (title, lines) in [("Exports", &exports), ("Imports", &imports)] {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{title}:\n  {}", lines.join("\n  "));
        }
    }
    if let Some(wit) = &info.wit {
        let _ = writeln!(text, "\n{}", wit.trim_end());
    }
    output::print(&text);
    Ok(())
}

fn get(
    stored: &Stored<'_>,
    module: &str,
    version: Option<&str>,
    out: Option<&Path>,
    json: bool,
) -> Result<()> {
    let index = stored.index()?;
    let (name, version) = named(module, version)?;
    let resolved = index.resolve(name, version.as_ref())?;
    let what = format!("Fetching {} {}", resolved.name, resolved.version);
    let bytes = during(&what, || stored.module(resolved.entry.sha256))?;
    let path = match out {
        Some(path) if path.as_os_str() == "-" => {
            let written = stdio::write(Stream::Stdout, &bytes);
            return written.map_err(|error| stdio::error("standard output", error));
        }
        Some(path) => path.to_owned(),
        None => format!("{}-{}.wasm", resolved.name, resolved.version).into(),
    };
    during(&what, || durable::write(&path, &bytes))?;
    let mut value = listing::to_json(&resolved);
    value["file"] = path.to_string_lossy().into();
    output::print(&if json { output::json(&value)? } else { format!("{}\n", path.display()) });
    Ok(())
}

fn remove(
    control: impl Fn() -> Result<Control>,
    module: &str,
    version: Option<&str>,
    json: bool,
) -> Result<()> {
    let (name, version) = named(module, version)?;
    let removed = control()?.remove(name, version.as_ref())?;
    if json {
        return output::json(&json!({ "name": name, "removed": removed })).map(|text| output::print(&text));
    }
    removed.iter().for_each(|version| output::print(&format!("Removed {name} {version}.\n")));
    Ok(())
}

fn pin(control: impl Fn() -> Result<Control>, module: &str, version: Option<&str>, json: bool) -> Result<()> {
    let (name, version) = named(module, version)?;
    control()?.pin(name, version.as_ref())?;
    if json {
        return output::json(&json!({ "name": name, "pinned": version })).map(|text| output::print(&text));
    }
    output::print(&match version {
        Some(version) => format!("{name} is pinned to {version}.\n"),
        None => format!("{name} is no longer pinned.\n"),
    });
    Ok(())
}

/// Parses `NAME` or `NAME@VERSION`. A version in the name overrides the one in the option.
fn named<'a>(module: &'a str, version: Option<&'a str>) -> Result<(&'a str, Option<Version>)> {
    let (name, beside) = match module.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (module, None),
    };
    Ok((name, beside.or(version).map(parse_version).transpose().map_err(as_usage)?))
}
