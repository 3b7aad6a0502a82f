//! The file of the roster in a home, `ghost.network.json`.
//!
//! In: a home, a roster. Out: the roster that the file has. gpmd writes it; nodes read it. Every signature is checked again
//! when it is read. Must not know: who sent the statements, connections.

use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use super::key::PublicKey;
use super::roster::{Roster, Statement};
use crate::base::durable;
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;

/// The layout that this version writes, and the only one it reads.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    founder: PublicKey,
    statements: Vec<Statement>,
}

/// Reads the roster of a home. `None` if its device has no network yet.
///
/// # Errors
/// `VERSION_MISMATCH` for a later format; `INTERNAL` if the file cannot be read, or not understood.
pub fn read(home: &Home) -> Result<Option<Roster>> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let path = home.roster();
    let text = match durable::read_text(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format_args!("cannot read `{}`", path.display()), error)),
    };
    let damaged = |error: serde_json::Error| {
        Error::internal(format!("`{}` is damaged: {error}", path.display())).with_help(
            "restore the file, or remove it to leave the network; this device must then be invited again",
        )
    };
    let Format { format } = serde_json::from_str(&text).map_err(damaged)?;
    if format != FORMAT {
        let message = format!("`{}` has format {format}; this program reads format {FORMAT}", path.display());
        return Err(Error::new(Code::VersionMismatch, message).with_help("install a newer release of GVM"));
    }
    let file: File = serde_json::from_str(&text).map_err(damaged)?;
    let mut roster = Roster::of(file.founder);
    roster.merge(file.statements)?;
    Ok(Some(roster))
}

/// Writes the roster. It is durable when this returns.
///
/// # Errors
/// `STORAGE_FULL`, `INTERNAL`.
pub fn write(home: &Home, roster: &Roster) -> Result<()> {
    let statements = roster.statements().cloned().collect();
    let file = File { format: FORMAT, founder: roster.founder(), statements };
    let text = serde_json::to_string_pretty(&file)
        .map_err(|error| Error::internal(format!("cannot write the roster: {error}")))?;
    durable::write(&home.roster(), (text + "\n").as_bytes())?;
    durable::place_too(&home.roster(), &home.shared())
}

/// Removes the roster of a home. This is durable when it returns.
///
/// # Errors
/// `INTERNAL`.
pub fn remove(home: &Home) -> Result<()> {
    let path = home.roster();
    let fail = |error| Error::io(format_args!("cannot remove `{}`", path.display()), error);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(fail(error)),
        Ok(()) => durable::sync_folder(home.path()).map_err(fail)?,
    }
    durable::place_too(&path, &home.shared())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::key::SecretKey;
    use crate::trust::roster::Role;

    #[test]
    fn the_file_keeps_what_is_signed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        assert_eq!(read(&home).unwrap(), None);
        let [laptop, pi] = [(); 2].map(|()| SecretKey::generate().unwrap());
        let mut roster = Roster::found(&laptop, "laptop".parse().unwrap(), 1).unwrap();
        roster.admit(&laptop, pi.public(), "pi".parse().unwrap(), Role::Member, 2).unwrap();
        write(&home, &roster).unwrap();
        assert_eq!(read(&home).unwrap(), Some(roster));
        let text = fs::read_to_string(home.roster()).unwrap();
        // A changed statement has a wrong signature.
        fs::write(home.roster(), text.replace("\"pi\"", "\"pie\"")).unwrap();
        let names: Vec<_> =
            read(&home).unwrap().unwrap().devices().iter().map(|device| device.name.to_string()).collect();
        assert_eq!(names, ["laptop"]);
        fs::write(home.roster(), text.replace("\"format\": 1", "\"format\": 2")).unwrap();
        assert_eq!(read(&home).unwrap_err().code(), Code::VersionMismatch);
        fs::write(home.roster(), &text[..text.len() / 2]).unwrap();
        let error = read(&home).unwrap_err();
        assert!(error.message().contains("is damaged: "), "{error}");
    }
}
