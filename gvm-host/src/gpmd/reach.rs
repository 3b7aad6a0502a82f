//! Where a home's gpmd is, and how it is dialled.
//!
//! In: a home, and an address where a person gave one. Out: connections to its gpmd. Must not know:
//! what is asked of it.

use std::io;

use crate::error::{Code, Error, Result};
use crate::home::Home;
use crate::wire::tls::Tls;
use crate::wire::transport::{Address, Transport, dial, dial_words};

/// A way to a home's gpmd. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Reach {
    address: Address,
    /// For ports.
    tls: Option<Tls>,
}

impl Reach {
    /// Its socket for nodes.
    pub fn nodes(home: &Home) -> Reach {
        Reach { address: Address::Unix(home.gpmd_socket()), tls: None }
    }

    /// Its socket for commands.
    pub fn commands(home: &Home) -> Reach {
        Reach { address: Address::Unix(home.command_socket()), tls: None }
    }

    /// Whatever address a person gave. A port is shown the home's key.
    ///
    /// # Errors
    /// `HOME_INSECURE` where others may read the key; `STORAGE_FULL`, `INTERNAL`.
    pub fn at(address: Address, home: &Home) -> Result<Reach> {
        let tls = match address {
            Address::Tcp(_) => Some(Tls::open(home)?),
            Address::Unix(_) => None,
        };
        Ok(Reach { address, tls })
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
                Error::new(Code::Overloaded, "gpmd takes no connection: it is stopped, or has too much to do")
            }
            _ => match self.address {
                Address::Unix(_) => Error::io("cannot reach gpmd", error),
                // The host may be away, or the connection went during the handshake.
                Address::Tcp(_) => {
                    let message = format!("no gpmd answers at {}: {error}", self.address);
                    Error::new(Code::GpmdNotRunning, message).with_source(error)
                }
            },
        })
    }

    fn not_running(&self) -> Error {
        match self.address {
            Address::Unix(_) => not_running(),
            Address::Tcp(_) => {
                Error::new(Code::GpmdNotRunning, format!("no gpmd answers at {}", self.address))
            }
        }
    }
}

/// The error of a home without gpmd.
pub fn not_running() -> Error {
    Error::new(Code::GpmdNotRunning, "no gpmd answers in this home: start one with `gpmd start`")
}
