//! Modules of other devices: what a name means there, and the bytes.
//!
//! In: names and hashes that nodes ask for, the indexes that other members told. Out: hashes; files in the home's folder of
//! fetched modules, each with the right hash, in a bounded space. Must not know: which call needs a module, the modules that
//! a person stored.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::stream;
use semver::Version;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::links::{self, Link, Other};
use crate::base::device::DeviceId;
use crate::base::durable;
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::id::{Hash, Name};
use crate::base::limits::{FETCHED_BYTES, MODULE_BYTES};
use crate::daemon::server::{State, ended};
use crate::gpmd::{bytes, entry};
use crate::modules::store::read_fetched;
use crate::wire::schema::gpmd_capnp::registry;

/// The most modules that are transferred at once: each is in memory until its hash is checked.
const AT_ONCE: usize = 2;

/// How many indexes of other devices are read at once, and how long one and all of them may take.
const READ_AT_ONCE: usize = 8;
const READS: Duration = Duration::from_secs(3);
const READING: Duration = Duration::from_secs(10);

/// The most names that are remembered.
const MOST_NAMES: usize = 4096;

/// What has been fetched, and what is being fetched. Belongs to the server's thread.
pub struct Fetched {
    /// What names meant on other devices, for when these are away.
    names: RefCell<BTreeMap<Name, BTreeMap<Version, Hash>>>,
    /// One transfer of a module at a time, whoever asks.
    running: RefCell<HashMap<Hash, Rc<Mutex<()>>>>,
    places: Semaphore,
    storing: Mutex<()>,
}

impl Fetched {
    /// Reads what the home remembers. What cannot be read is forgotten: it is only a cache.
    pub fn read(home: &Home) -> Fetched {
        let text = durable::read_text(&names_file(home)).unwrap_or_default();
        let names = serde_json::from_str(&text).unwrap_or_default();
        Fetched {
            names: RefCell::new(names),
            running: RefCell::default(),
            places: Semaphore::new(AT_ONCE),
            storing: Mutex::default(),
        }
    }

    /// Notes what a name means. Returns whether it meant something else before.
    fn note(&self, name: &Name, version: &Version, hash: Hash) -> bool {
        let mut names = self.names.borrow_mut();
        if names.len() >= MOST_NAMES && !names.contains_key(name) {
            names.pop_first();
        }
        names.entry(name.clone()).or_default().insert(version.clone(), hash) != Some(hash)
    }

    /// Stores what names mean. Has ended when the file is durable, or cannot be written: it is only a cache.
    async fn store(&self, home: &Home) {
        // In turns, so that the last one to write knows the most.
        let _turn = self.storing.lock().await;
        let (names, home) = (self.names.borrow().clone(), home.clone());
        let stored = spawn_blocking(move || write_names(&home, &names)).await;
        if let Err(error) = stored.map_err(ended).flatten() {
            tracing::warn!(%error, "cannot store what the names of modules mean");
        }
    }

    /// Returns what a name meant the last time: this version, or the highest one.
    fn remembered(&self, name: &Name, version: Option<&Version>) -> Option<Hash> {
        let names = self.names.borrow();
        let versions = names.get(name)?;
        match version {
            Some(version) => versions.get(version).copied(),
            None => versions.values().next_back().copied(),
        }
    }
}

fn names_file(home: &Home) -> PathBuf {
    home.fetched().join("names.json")
}

fn write_names(home: &Home, names: &BTreeMap<Name, BTreeMap<Version, Hash>>) -> Result<()> {
    make_folder(&home.fetched())?;
    let text = serde_json::to_string(names)
        .map_err(|error| Error::internal(format!("cannot write the names of modules: {error}")))?;
    durable::write(&names_file(home), text.as_bytes())
}

/// Returns the hash that another member has under a name: of this version, or of the highest one that a member chooses. If no
/// member that is connected has the name, returns what it meant the last time, if its bytes are still here.
pub async fn find(state: &Rc<State>, name: &Name, version: Option<&Version>) -> Option<Hash> {
    let network = &state.network;
    read_indexes(state).await;
    let mut best: Option<(Version, Hash)> = None;
    for other in network.others().into_iter().filter(|other| network.are_members(&other.id)) {
        if !other.is_up() {
            continue;
        }
        let index = other.index();
        let Ok(found) = index.resolve(name.as_str(), version) else { continue };
        let found = (found.version.clone(), found.entry.sha256);
        // Two devices may have other bytes under the same version: every node then takes the same ones.
        if best.as_ref().is_none_or(|best| found > *best) {
            best = Some(found);
        }
    }
    match best {
        Some((version, hash)) => {
            if state.fetched.note(name, &version, hash) {
                state.fetched.store(&state.home).await;
            }
            Some(hash)
        }
        None => {
            let hash = state.fetched.remembered(name, version)?;
            state.home.fetched_module(hash).exists().then_some(hash)
        }
    }
}

/// The most modules of other devices in one answer: it is one message.
const MOST_LISTED: usize = 2_000;

/// Answers with the modules of the other members.
pub async fn list(state: &Rc<State>, mut to: registry::other_modules_results::Builder<'_>) {
    let network = &state.network;
    read_indexes(state).await;
    let known = network.devices().now();
    let mut all = Vec::new();
    for other in network.others().into_iter().filter(|other| network.are_members(&other.id)) {
        if let (true, Some(device)) = (other.is_up(), known.get(&other.id)) {
            all.push((device.name.clone(), other.index()));
        }
    }
    let chosen = all.iter().flat_map(|(device, index)| {
        let modules = index.modules.iter();
        modules.filter_map(move |(name, module)| {
            let (version, entry) = module.chosen()?;
            Some((name, device, version, entry))
        })
    });
    let mut chosen: Vec<_> = chosen.collect();
    chosen.sort_by_key(|(name, device, ..)| (*name, *device));
    chosen.truncate(MOST_LISTED);
    let mut list = to.reborrow().init_modules(chosen.len() as u32);
    for (place, (name, device, version, stored)) in chosen.into_iter().enumerate() {
        let mut to = list.reborrow().get(place as u32);
        to.set_device(device.as_str());
        to.set_name(name.as_str());
        to.set_version(version.to_string());
        entry::write(stored, to.init_entry());
    }
}

/// Gets the bytes of a module: from the device `from`, or from any other one that has them.
///
/// # Errors
/// `MODULE_NOT_FOUND` if no device that is connected has them; `MODULE_CORRUPT` if one sent other bytes; `DEVICE_DOWN`,
/// `STORAGE_FULL`, `INTERNAL`.
pub async fn fetch(state: &Rc<State>, hash: Hash, from: Option<DeviceId>) -> Result<()> {
    let turn = state.fetched.running.borrow_mut().entry(hash).or_default().clone();
    let guard = turn.lock().await;
    let fetched = fetch_in_turn(state, hash, from).await;
    drop(guard);
    let mut running = state.fetched.running.borrow_mut();
    // The table and this request hold it: nobody waits.
    if Rc::strong_count(&turn) <= 2 {
        running.remove(&hash);
    }
    fetched
}

async fn fetch_in_turn(state: &Rc<State>, hash: Hash, from: Option<DeviceId>) -> Result<()> {
    let home = state.home.clone();
    let known = spawn_blocking(move || read_fetched(&home, hash)).await.map_err(ended)??;
    if known.is_some() {
        return Ok(());
    }
    let _place = state.fetched.places.acquire().await.map_err(|_| Error::internal("gpmd is stopping"))?;
    let mut failure = None;
    if from.is_none() {
        read_indexes(state).await;
    }
    for other in sources(state, hash, from) {
        let _in_use = other.begin_use();
        let transferred = match links::need(state, &other).await {
            Ok(link) => transfer(state, &link, hash).await,
            Err(error) => Err(error),
        };
        match transferred {
            Ok(bytes) => {
                tracing::info!(%hash, device = %other.id, size = bytes, "fetched a module");
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(%hash, device = %other.id, %error, "cannot fetch a module");
                // What is wrong with bytes says more than that another device has none.
                let says_more = |known: &Error| known.code() == Code::ModuleNotFound;
                if failure.as_ref().is_none_or(says_more) {
                    failure = Some(error);
                }
            }
        }
    }
    Err(failure.unwrap_or_else(|| {
        Error::new(Code::ModuleNotFound, format!("no device that is connected has the module {hash}"))
            .with_help("`gpmd devices` shows which devices are up")
    }))
}

/// Returns the devices to ask, in order: the one that is named, those whose index has the module, the other members.
fn sources(state: &State, hash: Hash, from: Option<DeviceId>) -> Vec<Rc<Other>> {
    let network = &state.network;
    let rank = |other: &Other| match () {
        () if network.is_direct(&other.id) && other.link().is_none() => None,
        () if Some(other.id) == from => Some(0),
        () if !network.are_members(&other.id) => None,
        () if !other.is_up() => None,
        () if other.index().holds(hash) => Some(1),
        // Too many to ask.
        () if other.link().is_none() => None,
        () => Some(2),
    };
    let ranked = network.others().into_iter().filter_map(|other| Some((rank(&other)?, other)));
    let mut sources: Vec<_> = ranked.collect();
    sources.sort_by_key(|(rank, other)| (*rank, other.id));
    sources.into_iter().map(|(_, other)| other).collect()
}

/// In a large network, reads the indexes of the devices that have changed theirs.
async fn read_indexes(state: &Rc<State>) {
    let network = &state.network;
    if !network.is_large() {
        return;
    }
    let stale = |other: &Rc<Other>| {
        let said = other.said.borrow().as_ref().map_or(0, |said| said.index);
        said != 0 && other.index().revision != said
    };
    let others = network.others().into_iter();
    let others: Vec<Rc<Other>> =
        others.filter(|other| !network.is_direct(&other.id) && other.is_up() && stale(other)).collect();
    let reading = stream::iter(others).for_each_concurrent(READ_AT_ONCE, |other| async move {
        match links::need(state, &other).await {
            Ok(_) => drop(other.until(READS, || !stale(&other)).await),
            Err(error) => tracing::debug!(device = %other.id, %error, "cannot read the index of a device"),
        }
    });
    let _ = timeout(READING, reading).await;
}

/// Reads the bytes from a device, checks them and stores them. Returns their number.
async fn transfer(state: &Rc<State>, link: &Link, hash: Hash) -> Result<usize> {
    let failed = |error| crate::wire::error::from_capnp(error, "the other device", Code::DeviceDown);
    let mut request = link.device.module_request();
    request.get().set_sha256(&hash.0);
    let answer = request.send().promise.await.map_err(failed)?;
    let found = answer.get().map_err(failed)?;
    let bytes = bytes::read(found, MODULE_BYTES, "the other device", Code::DeviceDown).await?;
    let home = state.home.clone();
    spawn_blocking(move || {
        if Hash::of(&bytes) != hash {
            let sentence = format!("another device sent other bytes than those of the module {hash}");
            return Err(
                Error::new(Code::ModuleCorrupt, sentence).with_help("upload the module again on that device")
            );
        }
        make_folder(&home.fetched())?;
        durable::write(&home.fetched_module(hash), &bytes)?;
        make_room(&home.fetched(), FETCHED_BYTES, &home.fetched_module(hash))?;
        Ok(bytes.len())
    })
    .await
    .map_err(ended)?
}

fn make_folder(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::io(format_args!("cannot create the folder `{}`", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Removes the modules that were not used for the longest time, until the others need at most this many bytes. Keeps `newest`.
fn make_room(folder: &Path, most: u64, newest: &Path) -> Result<()> {
    let fail = |error| Error::io(format_args!("cannot read `{}`", folder.display()), error);
    let mut modules: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "wasm")
            && let Ok(meta) = entry.metadata()
        {
            modules.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), path));
        }
    }
    modules.sort();
    let mut used: u64 = modules.iter().map(|(_, size, _)| size).sum();
    for (_, size, path) in modules {
        if used <= most {
            break;
        }
        if path != newest && fs::remove_file(&path).is_ok() {
            used -= size;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: u64| folder.path().join(format!("{number}.wasm"));
        for number in 0..5 {
            fs::write(path(number), vec![0; 100]).unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(100 - number);
            fs::File::options().write(true).open(path(number)).unwrap().set_modified(at).unwrap();
        }
        fs::write(folder.path().join("names.json"), "{}").unwrap();
        // 4 is the oldest and also the newest one that was fetched.
        make_room(folder.path(), 250, &path(4)).unwrap();
        let left: Vec<bool> = (0..5).map(|number| path(number).exists()).collect();
        assert_eq!(left, [true, false, false, false, true]);
        assert!(folder.path().join("names.json").exists());
        make_room(folder.path(), 250, &path(0)).unwrap();
        assert!(path(0).exists() && path(4).exists());
    }

    #[test]
    fn names_are_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        let fetched = Fetched::read(&home);
        let name: Name = "math".parse().unwrap();
        let [old, new] = [Version::new(1, 2, 0), Version::new(1, 10, 0)];
        fetched.note(&name, &new, Hash([2; 32]));
        fetched.note(&name, &old, Hash([1; 32]));
        assert_eq!(fetched.remembered(&name, None), Some(Hash([2; 32])));
        assert_eq!(fetched.remembered(&name, Some(&old)), Some(Hash([1; 32])));
        assert_eq!(fetched.remembered(&name, Some(&Version::new(2, 0, 0))), None);
        assert!(fetched.note(&name, &old, Hash([3; 32])) && fetched.note(&name, &old, Hash([1; 32])));
        assert!(!fetched.note(&name, &old, Hash([1; 32])));
        write_names(&home, &fetched.names.borrow()).unwrap();
        assert_eq!(Fetched::read(&home).remembered(&name, Some(&old)), Some(Hash([1; 32])));
        fs::write(names_file(&home), "damaged").unwrap();
        assert_eq!(Fetched::read(&home).remembered(&name, None), None);
    }
}
