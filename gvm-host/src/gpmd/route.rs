//! The address of a home's gpmd, and connections to it.
//!
//! In: a home, and an address if the user gave one. Out: connections to gpmd. Must not know: the requests
//! that are sent over them.

use std::io;

use super::record::{Record, holder, is_running};
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::process;
use crate::wire::tls::Tls;
use crate::wire::transport::{Address, Transport, dial, dial_words};

/// The address of a home's gpmd. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Route {
    address: Address,
    /// Only for ports.
    tls: Option<Tls>,
    home: Home,
}

impl Route {
    /// Returns the route to the socket for nodes.
    pub fn nodes(home: &Home) -> Route {
        Route { address: Address::Unix(home.gpmd_socket()), tls: None, home: home.clone() }
    }

    /// Returns the route to the socket for commands.
    pub fn commands(home: &Home) -> Route {
        Route { address: Address::Unix(home.command_socket()), tls: None, home: home.clone() }
    }

    /// Returns the route to the address that the user gave. At a port, both sides prove that they hold the
    /// home's key.
    ///
    /// # Errors
    /// `HOME_INSECURE` if other users can read the key; `STORAGE_FULL`, `INTERNAL`.
    pub fn at(address: Address, home: &Home) -> Result<Route> {
        let tls = match address {
            Address::Tcp(_) | Address::Node { .. } | Address::Tunnel { .. } => Some(Tls::open(home)?),
            Address::Unix(_) => None,
        };
        Ok(Route { address, tls, home: home.clone() })
    }

    /// Connects within a few seconds.
    ///
    /// # Errors
    /// `GPMD_NOT_RUNNING` if nothing listens, `AUTH_FAILED` if the listener does not belong to this home,
    /// `OVERLOADED` if it does not accept the connection.
    pub(super) async fn dial(&self) -> Result<Transport> {
        dial(&self.address, self.tls.as_ref()).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => self.not_running(),
            io::ErrorKind::PermissionDenied => self.refused(error),
            io::ErrorKind::TimedOut => Error::new(
                Code::Overloaded,
                "gpmd does not accept connections: it is suspended or overloaded",
            )
            .with_help("run `gvm doctor` to find out which"),
            _ => match self.address {
                Address::Unix(_) => Error::io("cannot connect to gpmd", error),
                // The host may be down, or the connection was lost during the handshake.
                Address::Tcp(_) | Address::Node { .. } | Address::Tunnel { .. } => {
                    self.no_answer(&error.to_string()).with_source(error)
                }
            },
        })
    }

    fn refused(&self, error: io::Error) -> Error {
        let message = format!("cannot connect to gpmd at `{}`: {}", self.address, dial_words(&error));
        let refused = Error::new(Code::AuthFailed, message);
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let refused = match inner.and_then(Error::help) {
            Some(help) => refused.with_help(help.to_owned()),
            None => refused,
        };
        refused.with_source(error)
    }

    fn not_running(&self) -> Error {
        match &self.address {
            Address::Unix(path) if is_running(&self.home) => {
                let (message, help) = self.silent(&path.display().to_string());
                Error::new(Code::GpmdNotRunning, message).with_help(help)
            }
            Address::Unix(_) => not_running(),
            Address::Tcp(_) | Address::Node { .. } | Address::Tunnel { .. } => {
                self.no_answer("nothing listens there")
            }
        }
    }

    /// The message and the help for a gpmd that holds the lock but does not answer at its socket.
    fn silent(&self, path: &str) -> (String, String) {
        // gpmd writes its record once it listens.
        if let Some(Record { pid, .. }) = Record::read(&self.home).filter(|record| process::lives(record.pid))
        {
            let message = format!("gpmd runs as process {pid} but does not answer at its socket `{path}`");
            return (message, format!("run `kill {pid}`, then `gpmd start`"));
        }
        let called =
            holder(&self.home).map(|pid| format!(" as {}", process::called(pid))).unwrap_or_default();
        let message = format!("gpmd is starting or stopping{called} and does not answer yet at `{path}`");
        (message, "wait a few seconds and try again".to_owned())
    }

    fn no_answer(&self, why: &str) -> Error {
        Error::new(Code::GpmdNotRunning, format!("no gpmd answers at `{}`: {why}", self.address))
            .with_help("start gpmd there, or correct the address (`--gpmd` or `GPMD_ADDRESS`)")
    }

    /// Replaces the error of a listener that does not know the greeting for `wanted` (`nodes`, `commands`).
    pub(super) fn wrong_port(&self, error: Error, wanted: &str) -> Error {
        match error.code() {
            Code::VersionMismatch => Error::new(
                Code::GpmdNotRunning,
                format!("`{}` is not gpmd's port for {wanted}", self.address),
            )
            .with_help("run `gpmd status` to see both ports: one is for nodes, the other for commands"),
            _ => error,
        }
    }
}

/// The error when no gpmd runs in the home.
pub fn not_running() -> Error {
    Error::new(Code::GpmdNotRunning, "no gpmd answers in this home").with_help("run `gpmd start`")
}
