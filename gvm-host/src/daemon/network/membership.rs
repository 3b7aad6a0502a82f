//! Changes of the roster: who belongs to the network.
//!
//! In: admissions, removals and statements of other devices. Out: the roster in the home, then the nodes and the other
//! devices that are told of it. Must not know: how a device proves its key, how invitations work.

use std::rc::Rc;

use tokio::task::spawn_blocking;

use super::Network;
use super::links;
use super::listening;
use super::profile::free_name;
use crate::base::error::{Code, Error, Result};
use crate::base::id::Name;
use crate::daemon::server::{State, ended, now_ms};
use crate::trust::device::DeviceKey;
use crate::trust::devices::Devices;
use crate::trust::key::PublicKey;
use crate::trust::roster::{Role, Roster, Statement};
use crate::trust::roster_file;

/// Returns the roster that a device starts with, and whether it is new.
///
/// # Errors
/// `BAD_ARGUMENTS` if a name was chosen and the device has another one in a network with others.
pub fn settled(
    roster: Option<Roster>,
    key: &DeviceKey,
    name: &Name,
    is_chosen: bool,
    now_ms: i64,
) -> Result<(Roster, bool)> {
    let found = || Roster::found(key.secret(), name.clone(), now_ms).map(|roster| (roster, true));
    let Some(roster) = roster else { return found() };
    match roster.device(&key.public()) {
        Some(own) if is_chosen && own.name != *name => match roster.devices().len() {
            1 => found(),
            _ => Err(Error::new(
                Code::BadArguments,
                format!("this device has the name `{}` in its network", own.name),
            )
            .with_help("leave `--device` out, or run `gpmd leave` and join again with the other name")),
        },
        Some(_) => Ok((roster, false)),
        None if roster.was_removed(&key.public()) => Ok((roster, false)),
        // A person has replaced the key.
        None => found(),
    }
}

/// Makes the devices of a roster those that this process trusts. A device that was removed trusts only itself.
pub fn publish(devices: &Devices, own: PublicKey, roster: &Roster) {
    let all = match roster.device(&own) {
        Some(_) => roster.devices(),
        None => Vec::new(),
    };
    devices.set(own, all);
}

/// Changes the roster. The change is durable, the nodes of this device know it, and devices that no longer belong to the
/// network are disconnected when this returns; the others hear of it soon.
///
/// # Errors
/// Those of the change; `STORAGE_FULL`, `INTERNAL`. Then the roster is unchanged.
async fn change<T: 'static>(
    state: &Rc<State>,
    change: impl FnOnce(&mut Roster, &DeviceKey) -> Result<T> + 'static,
) -> Result<T> {
    let state = state.clone();
    whole(async move {
        let network = &state.network;
        let _turn = network.changing.lock().await;
        let key = network.key();
        let mut roster = network.roster.borrow().clone();
        let result = change(&mut roster, &key)?;
        if roster != *network.roster.borrow() {
            replace(&state, &key, roster).await?;
        }
        Ok(result)
    })
    .await
}

/// Runs something to its end, even if the connection of the request for it ends, which drops the request.
///
/// # Errors
/// Those of the future.
pub async fn whole<T: 'static>(future: impl Future<Output = Result<T>> + 'static) -> Result<T> {
    tokio::task::spawn_local(future).await.map_err(ended)?
}

/// Stores a roster and makes it known. The caller holds the turn.
async fn replace(state: &Rc<State>, key: &Rc<DeviceKey>, roster: Roster) -> Result<()> {
    let network = &state.network;
    let (home, roster) = (network.home.clone(), roster);
    let roster = spawn_blocking(move || roster_file::write(&home, &roster).map(|()| roster));
    let roster = roster.await.map_err(ended)??;
    publish(&network.devices, key.public(), &roster);
    *network.roster.borrow_mut() = roster;
    state.subscribers.devices_changed().await;
    network.changed();
    links::settle(state).await;
    listening::settle(state).await
}

/// Admits a device, with another name if the name is taken. Returns its name.
///
/// # Errors
/// Those of [`Roster::admit`]; `STORAGE_FULL`, `INTERNAL`.
pub async fn admit(state: &Rc<State>, device: PublicKey, name: Name, role: Role) -> Result<Name> {
    change(state, move |roster, key| {
        let devices = roster.devices();
        let name = free_name(name, |name| devices.iter().any(|device| device.name == *name));
        roster.admit(key.secret(), device, name.clone(), role, now_ms())?;
        Ok(name)
    })
    .await
}

/// Removes another device.
///
/// # Errors
/// Those of [`Roster::remove`]; `STORAGE_FULL`, `INTERNAL`.
pub async fn remove(state: &Rc<State>, device: PublicKey) -> Result<()> {
    change(state, move |roster, key| roster.remove(key.secret(), device, now_ms())).await
}

/// Merges the statements of another device. Returns when they are durable.
///
/// # Errors
/// `LIMIT_EXCEEDED`, `STORAGE_FULL`, `INTERNAL`.
pub async fn merge(state: &Rc<State>, statements: Vec<Statement>) -> Result<()> {
    // Without news there is no need to wait for a change that waits for an answer of the device that tells this.
    let mut merged = state.network.roster.borrow().clone();
    if !merged.merge(statements.iter().cloned())? {
        return Ok(());
    }
    change(state, move |roster, _| roster.merge(statements).map(drop)).await
}

/// Becomes a member of another network, whose roster this is.
///
/// # Errors
/// `INVITATION_INVALID` if the roster does not admit this device; `NETWORK_JOINED`, `STORAGE_FULL`, `INTERNAL`.
pub async fn adopt(state: &Rc<State>, founder: PublicKey, statements: Vec<Statement>) -> Result<()> {
    change(state, move |roster, key| {
        if roster.founder() != founder {
            check_alone(roster, key)?;
            *roster = Roster::of(founder);
        }
        roster.merge(statements)?;
        match roster.device(&key.public()) {
            Some(_) => Ok(()),
            None => Err(Error::new(
                Code::InvitationInvalid,
                "the inviting device sent a network that this device does not belong to",
            )),
        }
    })
    .await
}

/// Checks that a device may change its network: it is alone in it.
///
/// # Errors
/// `NETWORK_JOINED`.
pub fn check_alone(roster: &Roster, key: &DeviceKey) -> Result<()> {
    let devices = roster.devices();
    let own = devices.iter().find(|device| device.key == key.public());
    match own {
        Some(own) if devices.len() > 1 => {
            let sentence =
                format!("this device is `{}` in a network of {} devices already", own.name, devices.len());
            Err(Error::new(Code::NetworkJoined, sentence)
                .with_help("run `gpmd leave` first to remove it from that network"))
        }
        _ => Ok(()),
    }
}

impl Network {
    /// Returns the statements of the roster, and the key of its founder.
    pub fn statements(&self) -> (PublicKey, Vec<Statement>) {
        let roster = self.roster.borrow();
        (roster.founder(), roster.statements().cloned().collect())
    }

    /// Returns whether this device was removed from its network.
    pub fn was_removed(&self) -> bool {
        let roster = self.roster.borrow();
        let own = self.key().public();
        roster.device(&own).is_none() && roster.was_removed(&own)
    }
}

/// Leaves the network: this device removes itself, tells the others, and founds a network of its own with a new key. Returns
/// the names of the devices that were told.
///
/// # Errors
/// `BAD_ARGUMENTS` if it is alone; `STORAGE_FULL`, `INTERNAL`.
pub async fn leave(state: &Rc<State>) -> Result<Vec<Name>> {
    let network = &state.network;
    let own = network.key().public();
    let was_removed = network.was_removed();
    if !was_removed && network.roster.borrow().devices().len() < 2 {
        return Err(Error::new(Code::BadArguments, "this device is not in a network with other devices"));
    }
    let mut told = Vec::new();
    if !was_removed {
        let connected = links::connected(state);
        change(state, move |roster, key| roster.remove(key.secret(), own, now_ms())).await?;
        told = connected;
    }
    renew(state).await?;
    Ok(told)
}

/// Gives this device a new key and a network of its own.
///
/// # Errors
/// `STORAGE_FULL`, `INTERNAL`.
pub async fn renew(state: &Rc<State>) -> Result<()> {
    let state = state.clone();
    whole(async move { renew_now(&state).await }).await
}

async fn renew_now(state: &Rc<State>) -> Result<()> {
    let network = &state.network;
    let _turn = network.changing.lock().await;
    let (home, name) = (network.home.clone(), network.name.clone());
    let renewed = spawn_blocking(move || {
        // Without a roster, a start after a crash founds a network with whichever key there is.
        roster_file::remove(&home)?;
        let key = DeviceKey::renew(&home)?;
        let roster = Roster::found(key.secret(), name, now_ms())?;
        Ok::<_, Error>((key, roster))
    });
    let (key, roster) = renewed.await.map_err(ended)??;
    network.shown.replace(&key)?;
    let key = Rc::new(key);
    *network.key.borrow_mut() = key.clone();
    replace(state, &key, roster).await?;
    // Tunnels are known by the key.
    network.start_tunnels()
}
