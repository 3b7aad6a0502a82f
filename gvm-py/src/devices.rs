//! The network of devices of a home: what a person does with `gpmd invite`, `join`, `devices`, `remove` and `leave`.
//!
//! In: the folder of a home, the words of a request. Out: gpmd's answers, as JSON. Must not know: how Python shows them.

use std::path::PathBuf;
use std::time::Duration;

use gvm_host::gpmd::control::Control;
use gvm_host::roster::Role;
use gvm_host::{Code, Error, Home, Result};
use pyo3::prelude::*;

use crate::op::Op;

/// Asks the gpmd of a home.
fn asked<T: serde::Serialize>(home: PathBuf, ask: impl FnOnce(Control) -> Result<T> + Send + 'static) -> Op {
    let ask = move || -> Result<String> {
        let answer = ask(Control::connect(&Home::open(home)?)?)?;
        serde_json::to_string(&answer)
            .map_err(|error| Error::internal(format!("cannot write an answer of gpmd: {error}")))
    };
    Op::blocking(ask, |py, json| Ok(json.into_pyobject(py)?.into_any().unbind()))
}

/// Creates an invitation that holds for these seconds.
#[pyfunction]
pub fn network_invite(home: PathBuf, seconds: f64, guest: bool, name: Option<String>) -> Op {
    asked(home, move |control| {
        let expires = Duration::try_from_secs_f64(seconds).map_err(|_| {
            Error::new(Code::BadArguments, format!("expires: {seconds} seconds is out of range"))
        })?;
        let name = name.map(|name| name.parse()).transpose()?;
        control.invite(expires, if guest { Role::Guest } else { Role::Member }, name.as_ref())
    })
}

/// Returns the open invitations.
#[pyfunction]
pub fn network_invitations(home: PathBuf) -> Op {
    asked(home, |control| control.invitations())
}

/// Revokes an invitation, by the beginning of its id. Returns its id.
#[pyfunction]
pub fn network_revoke(home: PathBuf, id: String) -> Op {
    asked(home, move |control| control.revoke(&id))
}

/// Joins the network of the device that made the line.
#[pyfunction]
pub fn network_join(home: PathBuf, line: String) -> Op {
    asked(home, move |control| control.join(&line))
}

/// Returns the devices of the network.
#[pyfunction]
pub fn network_devices(home: PathBuf) -> Op {
    asked(home, |control| control.devices())
}

/// Removes another device, by its name or id. Returns its name.
#[pyfunction]
pub fn network_remove(home: PathBuf, device: String) -> Op {
    asked(home, move |control| control.remove_device(&device))
}

/// Leaves the network. Returns the names of the devices that were told.
#[pyfunction]
pub fn network_leave(home: PathBuf) -> Op {
    asked(home, |control| control.leave())
}
