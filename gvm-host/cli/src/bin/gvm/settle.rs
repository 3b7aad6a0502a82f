//! Fills in options from `config.toml`. Flags and environment variables override it.
//!
//! In: options, settings. Out: the options, complete. Checks every value of the settings, so that its error
//! has the file and the line. Must not know: what the commands do with the options.

use std::path::PathBuf;

use clap::ValueEnum;
use gvm_cli::settings::{Setting, Settings};
use gvm_host::net::host_and_port;
use gvm_host::{Accept, Error, Name, Result, Rule};

use super::options::{
    Options, SessionRights, WhichModules, parse_config, parse_dir, parse_size, parse_time, usage,
};

impl Options {
    /// Fills in the options that the command line does not set, from the settings of the home. Uses `name`
    /// and `listen` only if `named`: the node of a short command must not take them from the node that the
    /// user keeps running.
    ///
    /// # Errors
    /// `SYNTAX` with the file and the line.
    pub fn settle(&mut self, named: bool) -> Result<()> {
        self.granted_by_flags = self.grants_anything();
        let settings = Settings::read(&self.home_path()?)?;
        let name = settings.name.filter(|_| named);
        one(&mut self.name, "name", name, |text| text.parse::<Name>().map(drop))?;
        one(&mut self.accept, "accept", settings.accept, |text| text.parse::<Accept>().map(drop))?;
        let modules = settings.modules.map(read_modules).transpose()?;
        one(&mut self.modules, "modules", modules, |_| Ok(()))?;
        one(&mut self.session_time, "session-time", settings.session_time, |text| {
            parse_time(text).map(drop)
        })?;
        let listen = settings.listen.filter(|_| named);
        one(&mut self.listen, "listen", listen, |text| host_and_port(text, 0).map(drop))?;
        one(&mut self.timeout, "timeout", settings.timeout, |text| parse_time(text).map(drop))?;
        one(&mut self.max_memory, "max-memory", settings.max_memory, |text| parse_size(text).map(drop))?;
        one(&mut self.max_output, "max-output", settings.max_output, |text| parse_size(text).map(drop))?;
        one(&mut self.fuel, "fuel", settings.fuel, |fuel| match fuel {
            0 => Err(usage("0 allows no work at all").with_help("remove the line for no limit")),
            _ => Ok(()),
        })?;
        many(&mut self.allow_calls, "allow-call", settings.allow_call, |text| {
            text.parse::<Rule>().map(|_| text.to_owned())
        })?;
        many(&mut self.dirs, "dir", settings.dir, |text| parse_dir(text).map(|_| text.to_owned()))?;
        many(&mut self.env, "env", settings.env, |text| Ok(text.to_owned()))?;
        many(&mut self.config, "config", settings.config, |text| {
            parse_config(text).map(|_| text.to_owned())
        })?;
        let tls_ca = settings.tls_ca.map(|Setting { value, file, line }| Setting {
            value: PathBuf::from(value),
            file,
            line,
        });
        one(&mut self.tls_ca, "tls-ca", tls_ca, |path| match path.as_os_str().is_empty() {
            true => Err(usage("the path is empty")),
            false => Ok(()),
        })?;
        many(&mut self.allow_net, "allow-net", settings.allow_net, |text| match text.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => Ok(text.to_owned()),
            _ => Err(usage(format!("{text:?} is not HOST:PORT"))),
        })?;
        many(&mut self.grants, "grant", settings.grant, |text| {
            SessionRights::from_str(text, false).map_err(|_| {
                usage(format!("unknown grant {text:?}")).with_help("the grants are `nodes` and `keyvalue`")
            })
        })
    }
}

fn read_modules(setting: Setting<String>) -> Result<Setting<WhichModules>> {
    let value = WhichModules::from_str(&setting.value, false)
        .map_err(|_| setting.wrong("modules", format_args!("{:?} is not `any` or `own`", setting.value)))?;
    Ok(Setting { value, file: setting.file, line: setting.line })
}

/// Uses the setting if the option is not set. Checks the setting in any case.
fn one<T>(
    option: &mut Option<T>,
    key: &str,
    setting: Option<Setting<T>>,
    check: impl FnOnce(&T) -> Result<()>,
) -> Result<()> {
    let Some(setting) = setting else { return Ok(()) };
    check(&setting.value).map_err(|error| wrong(&setting, key, &error))?;
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
    let values = setting.value.iter().map(|text| read(text)).collect::<Result<Vec<T>>>();
    let values = values.map_err(|error| wrong(&setting, key, &error))?;
    if option.is_empty() {
        *option = values;
    }
    Ok(())
}

/// Returns the error of a value, with the file and the line of its setting.
fn wrong<T>(setting: &Setting<T>, key: &str, error: &Error) -> Error {
    let wrong = setting.wrong(key, error.message());
    match error.help() {
        Some(help) => wrong.with_help(help.to_owned()),
        None => wrong,
    }
}
