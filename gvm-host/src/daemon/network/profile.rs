//! What a device remembers about itself, `ghost.device.json`, and the default name of a device.
//!
//! In: a home, the name of the host. Out: the name, the port and the relay of the device. Must not know: the roster, connections.

use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use crate::base::durable;
use crate::base::error::{Error, Result};
use crate::base::home::Home;
use crate::base::id::{MAX_NAME, Name};

/// The name of a device whose host has no usable name.
const NAMELESS: &str = "device";

/// What a device remembers about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The name that a person chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The port where other devices know this one, so that it is the same after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The relay that a person chose, or that came with the invitation, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
}

impl Profile {
    /// Reads the profile. It is empty if the device has none yet.
    ///
    /// # Errors
    /// `INTERNAL` if the file cannot be read or understood.
    pub fn read(home: &Home) -> Result<Profile> {
        let path = home.device();
        match durable::read_text(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| {
                Error::internal(format!("`{}` is damaged: {error}", path.display()))
                    .with_help("remove the file; `gpmd start --device NAME` writes a new one")
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Profile::default()),
            Err(error) => Err(Error::io(format_args!("cannot read `{}`", path.display()), error)),
        }
    }

    /// Writes the profile. It is durable when this returns.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `INTERNAL`.
    pub fn write(&self, home: &Home) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::internal(format!("cannot write the device's profile: {error}")))?;
        durable::write(&home.device(), (text + "\n").as_bytes())
    }
}

/// Returns the name of this host as the name of a device.
///
/// # Errors
/// Those of [`valid_name`].
pub fn host_name() -> Result<Name> {
    valid_name(&hostname::get().unwrap_or_default().to_string_lossy())
}

/// Makes a valid name from the name of a host: its first label, in lower case, with hyphens for other characters.
///
/// # Errors
/// None for any host.
pub fn valid_name(host: &str) -> Result<Name> {
    let label = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let words = label.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let joined = words.collect::<Vec<_>>().join("-");
    let named = match joined.as_str() {
        "" | "localhost" => NAMELESS.to_owned(),
        name if name.starts_with(|c: char| c.is_ascii_digit()) => format!("{NAMELESS}-{name}"),
        name => name.to_owned(),
    };
    let cut = named.get(..MAX_NAME).unwrap_or(&named).trim_end_matches('-');
    // A reserved name, such as `node`, gets an end.
    cut.parse().or_else(|_| format!("{cut}-{NAMELESS}").parse()).or_else(|_: Error| NAMELESS.parse())
}

/// Returns the name, or the first one with a number behind it that `is_taken` does not refuse.
pub fn free_name(name: Name, is_taken: impl Fn(&Name) -> bool) -> Name {
    if !is_taken(&name) {
        return name;
    }
    let numbered = (2_u32..).filter_map(|number| {
        let end = format!("-{number}");
        let most = name.as_str().len().min(MAX_NAME - end.len());
        format!("{}{end}", name.as_str()[..most].trim_end_matches('-')).parse().ok()
    });
    let mut free = numbered.filter(|name| !is_taken(name));
    free.next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn hosts_have_valid_names() {
        for (host, name) in [
            ("laptop", "laptop"),
            ("Annas-MacBook-Pro.local", "annas-macbook-pro"),
            ("my_pc", "my-pc"),
            ("raspberry pi", "raspberry-pi"),
            ("4f2a", "device-4f2a"),
            ("", "device"),
            ("localhost", "device"),
            ("localhost.localdomain", "device"),
            ("--", "device"),
            ("node", "node-device"),
            ("Büro", "b-ro"),
        ] {
            assert_eq!(valid_name(host).unwrap().as_str(), name, "{host}");
        }
        assert!(valid_name(&"a-".repeat(100)).unwrap().as_str().len() <= MAX_NAME);
        host_name().unwrap();
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let taken = [name("pi"), name("pi-2")];
        assert_eq!(free_name(name("pi"), |name| taken.contains(name)), name("pi-3"));
        assert_eq!(free_name(name("tv"), |name| taken.contains(name)), name("tv"));
        let long = name(&"a".repeat(MAX_NAME));
        assert_eq!(free_name(long.clone(), |name| *name == long).as_str().len(), MAX_NAME);
    }

    #[test]
    fn the_profile_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        assert_eq!(Profile::read(&home).unwrap(), Profile::default());
        let profile =
            Profile { name: Some("pi".parse().unwrap()), port: Some(5989), relay: Some("n0".into()) };
        profile.write(&home).unwrap();
        assert_eq!(Profile::read(&home).unwrap(), profile);
        fs::write(home.device(), "{").unwrap();
        assert!(Profile::read(&home).unwrap_err().message().contains("is damaged"));
    }
}
