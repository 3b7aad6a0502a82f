//! What the home's `config.toml` adds to a command line: below flags and the environment, above defaults.
//!
//! In: options, settings. Out: the same options, with what the line left open. Every value is read once
//! here, so that what is wrong with it names the file and the line.

use clap::ValueEnum;
use gvm_cli::settings::{Setting, Settings};
use gvm_host::Accept;
use gvm_host::Name;
use gvm_host::Rule;
use gvm_host::net::host_and_port;
use gvm_host::{Error, Result};

use super::options::{Options, SessionRights, parse_dir, parse_size, parse_time, usage};

impl Options {
    /// Takes from the home's settings what the command line leaves open. A node's name, and where it
    /// listens, only where `named`: one that lives for one command must not take them from the one that
    /// stays.
    ///
    /// # Errors
    /// `SYNTAX` with file and line.
    pub fn settle(&mut self, named: bool) -> Result<()> {
        self.granted_by_flags = self.grants_anything();
        let settings = Settings::read(&self.home_path()?)?;
        let name = settings.name.filter(|_| named);
        one(&mut self.name, "name", name, |text| text.parse::<Name>().map(drop))?;
        one(&mut self.accept, "accept", settings.accept, |text| text.parse::<Accept>().map(drop))?;
        one(&mut self.session_time, "session-time", settings.session_time, |text| {
            parse_time(text).map(drop)
        })?;
        let listen = settings.listen.filter(|_| named);
        one(&mut self.listen, "listen", listen, |text| host_and_port(text, 0).map(drop))?;
        one(&mut self.timeout, "timeout", settings.timeout, |text| parse_time(text).map(drop))?;
        one(&mut self.max_memory, "max-memory", settings.max_memory, |text| parse_size(text).map(drop))?;
        one(&mut self.max_output, "max-output", settings.max_output, |text| parse_size(text).map(drop))?;
        one(&mut self.fuel, "fuel", settings.fuel, |fuel| match fuel {
            0 => Err(usage("0 would allow nothing: leave it out for no limit")),
            _ => Ok(()),
        })?;
        many(&mut self.allow_calls, "allow-call", settings.allow_call, |text| {
            text.parse::<Rule>().map(|_| text.to_owned())
        })?;
        many(&mut self.dirs, "dir", settings.dir, |text| parse_dir(text).map(|_| text.to_owned()))?;
        many(&mut self.env, "env", settings.env, |text| Ok(text.to_owned()))?;
        many(&mut self.allow_net, "allow-net", settings.allow_net, |text| match text.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => Ok(text.to_owned()),
            _ => Err(usage(format!("{text:?} is no HOST:PORT"))),
        })?;
        many(&mut self.grants, "grant", settings.grant, |text| {
            SessionRights::from_str(text, false)
                .map_err(|_| usage(format!("{text:?} cannot be granted; `nodes` can")))
        })
    }
}

/// Where the command line says nothing, the setting counts; what is wrong with it is said either way.
fn one<T>(
    option: &mut Option<T>,
    key: &str,
    setting: Option<Setting<T>>,
    check: impl FnOnce(&T) -> Result<()>,
) -> Result<()> {
    let Some(setting) = setting else { return Ok(()) };
    check(&setting.value).map_err(|error| setting.wrong(key, error.message()))?;
    option.get_or_insert(setting.value);
    Ok(())
}

fn many<T>(
    option: &mut Vec<T>,
    key: &str,
    setting: Option<Setting<Vec<String>>>,
    read: impl Fn(&str) -> Result<T>,
) -> Result<()> {
    let Some(setting) = setting else { return Ok(()) };
    let wrong = |error: Error| setting.wrong(key, error.message());
    let values = setting.value.iter().map(|text| read(text)).collect::<Result<Vec<T>>>().map_err(wrong)?;
    if option.is_empty() {
        *option = values;
    }
    Ok(())
}
