//! Where a home's gpmd is, and how it is dialled.
//!
//! In: a home, and an address where a person gave one. Out: connections to its gpmd. Must not know:
//! what is asked of it.

use std::io;

use super::record::{Record, holder, is_running};
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::process;
use crate::wire::tls::Tls;
use crate::wire::transport::{Address, Transport, dial, dial_words};

/// A way to a home's gpmd. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Route {
    address: Address,
    /// For ports.
    tls: Option<Tls>,
    home: Home,
}

impl Route {
    /// Its socket for nodes.
    pub fn nodes(home: &Home) -> Route {
        Route { address: Address::Unix(home.gpmd_socket()), tls: None, home: home.clone() }
    }

    /// Its socket for commands.
    pub fn commands(home: &Home) -> Route {
        Route { address: Address::Unix(home.command_socket()), tls: None, home: home.clone() }
    }

    /// Whatever address a person gave. A port is shown the home's key.
    ///
    /// # Errors
    /// `HOME_INSECURE` where others may read the key; `STORAGE_FULL`, `INTERNAL`.
    pub fn at(address: Address, home: &Home) -> Result<Route> {
        let tls = match address {
            Address::Tcp(_) => Some(Tls::open(home)?),
            Address::Unix(_) => None,
        };
        Ok(Route { address, tls, home: home.clone() })
    }

    /// Dials it, within some seconds.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` where nobody listens, `AUTH_FAILED` where whoever listens is not of this home,
    /// `OVERLOADED` where it takes no connection.
    pub(super) async fn dial(&self) -> Result<Transport> {
        dial(&self.address, self.tls.as_ref()).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => self.not_running(),
            io::ErrorKind::PermissionDenied => {
                Error::new(Code::AuthFailed, format!("gpmd at {}: {}", self.address, dial_words(&error)))
                    .with_source(error)
            }
            io::ErrorKind::TimedOut => {
                Error::new(Code::Overloaded, "gpmd accepts no connection: it is suspended or overloaded")
                    .with_help("run `gvm doctor` to find out which")
            }
            _ => match self.address {
                Address::Unix(_) => Error::io("cannot reach gpmd", error),
                // The host may be away, or the connection went during the handshake.
                Address::Tcp(_) => self.nobody_at(&error.to_string()).with_source(error),
            },
        })
    }

    fn not_running(&self) -> Error {
        match &self.address {
            Address::Unix(path) if is_running(&self.home) => {
                let path = path.display();
                // It writes its record once it listens.
                let sentence = match Record::read(&self.home).filter(|record| process::lives(record.pid)) {
                    Some(Record { pid, .. }) => format!(
                        "gpmd runs as process {pid}, and nobody answers at its socket {path}: `kill {pid}`, then \
                         `gpmd start`"
                    ),
                    None => match holder(&self.home) {
                        Some(pid) => format!(
                            "gpmd is starting or ending, as {}: nobody answers yet at {path}",
                            process::called(pid)
                        ),
                        None => format!("gpmd is starting or ending: nobody answers yet at {path}"),
                    },
                };
                Error::new(Code::GpmdNotRunning, sentence)
            }
            Address::Unix(_) => not_running(),
            Address::Tcp(_) => self.nobody_at("nobody listens there"),
        }
    }

    fn nobody_at(&self, why: &str) -> Error {
        let sentence = format!(
            "no gpmd answers at {}: {why}; start it there, or correct --gpmd (GPMD_ADDRESS)",
            self.address
        );
        Error::new(Code::GpmdNotRunning, sentence)
    }

    /// The error of something else than what was dialled: it does not know the greeting.
    pub(super) fn another_door(&self, error: Error, wanted: &str) -> Error {
        match error.code() {
            Code::VersionMismatch => Error::new(
                Code::GpmdNotRunning,
                format!(
                    "what answers at {} is not gpmd's port for {wanted}: each of its two ports serves one, and \
                     `gpmd status` tells both",
                    self.address
                ),
            ),
            _ => error,
        }
    }
}

/// The error of a home without gpmd.
pub fn not_running() -> Error {
    Error::new(Code::GpmdNotRunning, "no gpmd answers in this home: start one with `gpmd start`")
}
