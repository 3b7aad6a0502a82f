//! Live instances: modules that keep their state between calls.
//!
//! In: modules to instantiate, calls by the name of an instance. Out: outcomes. Must not know: sockets,
//! sessions. A set of instances belongs to one owner (the users of this node, or one session) and ends with
//! it. Calls on an instance run one after another. An instance is gone after a trap, or after a call that was
//! cancelled while it ran.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use uuid::Uuid;

use crate::base::device::NodeName;
use crate::base::error::{Code, Effect, Error, Result};
use crate::base::id::Name;
use crate::base::limits;
use crate::call::ModuleRef;
use crate::engine::{Instance, Module};
use crate::wire::gate::{Gate, Pass};

/// The instances of one owner. Cheap to clone; clones share them. Dropping the last clone frees them.
#[derive(Clone)]
pub struct Instances(Arc<Held>);

struct Held {
    most: usize,
    /// The places that it shares with other owners.
    shared: Option<Gate>,
    slots: Mutex<HashMap<Name, Slot, RandomState>>,
}

/// What a name stands for, and its place among those of other owners.
struct Slot {
    state: State,
    _place: Option<Pass>,
}

enum State {
    /// It is being made by the holder of this mark.
    Making(Arc<()>),
    Live(Arc<Live>),
}

/// The place of an instance that is being made. It counts as an instance. Dropping it frees the place.
pub struct Reserved {
    instances: Instances,
    name: Name,
    mark: Arc<()>,
}

/// The places of the instances that the users of a node hold, by name. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<Places>>);

#[derive(Default)]
struct Places {
    made: u64,
    places: BTreeMap<Name, Place>,
}

/// The node on which an instance lives, and the module that it was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// `None` is this node.
    pub node: Option<NodeName>,
    pub module: String,
}

impl Directory {
    /// Returns a name that no instance had before and that is not `taken`: `i1`, `i2`…
    pub fn next_name(&self, taken: impl Fn(&Name) -> bool) -> Result<Name> {
        let mut places = lock(&self.0);
        loop {
            places.made += 1;
            let name = format!("i{}", places.made).parse()?;
            if !taken(&name) {
                return Ok(name);
            }
        }
    }

    /// Adds an instance.
    pub fn add(&self, name: Name, place: Place) {
        lock(&self.0).places.insert(name, place);
    }

    /// Returns the place of the instance with this name, if there is one.
    pub fn get(&self, name: &Name) -> Option<Place> {
        lock(&self.0).places.get(name).cloned()
    }

    /// Removes an instance.
    pub fn remove(&self, name: &Name) {
        lock(&self.0).places.remove(name);
    }

    /// Removes the instances on a node that is gone: they ended with the session.
    pub fn forget_node(&self, node: &NodeName) {
        lock(&self.0).places.retain(|_, place| place.node.as_ref() != Some(node));
    }

    /// Returns every instance, sorted by name.
    pub fn list(&self) -> Vec<(Name, Place)> {
        lock(&self.0).places.iter().map(|(name, place)| (name.clone(), place.clone())).collect()
    }
}

/// An instance that has been made and has no owner yet. It is dropped with this value.
pub struct Made {
    /// What it was made from.
    pub from: ModuleRef,
    pub module: Arc<Module>,
    pub instance: Instance,
}

/// One live instance.
pub struct Live {
    pub module: Arc<Module>,
    /// The module that it was made from, as its owner named it.
    pub title: String,
    /// The name of the stored module that it was made from. `None` if the caller sent the module.
    pub of: Option<Name>,
    /// The instance while no call runs in it, or the code that ended it. Waiting calls queue here in order.
    cell: tokio::sync::Mutex<Result<Instance, Code>>,
    /// The call that runs in it. Its guest and whoever receives its output can make calls.
    running: Running,
}

/// The id of the call that runs in an instance, in two halves; zero if none does. A reader can see the halves of two
/// calls, which together are the id of no call. A call that runs during the whole read is always seen.
#[derive(Default)]
struct Running([AtomicU64; 2]);

impl Running {
    fn set(&self, call: Uuid) {
        let (high, low) = call.as_u64_pair();
        self.0[0].store(high, Ordering::Relaxed);
        self.0[1].store(low, Ordering::Relaxed);
    }

    fn is_in(&self, calls: &[Uuid]) -> bool {
        let halves = self.0.each_ref().map(|half| half.load(Ordering::Relaxed));
        calls.contains(&Uuid::from_u64_pair(halves[0], halves[1]))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Instances {
    /// Creates the set of the users of a node.
    pub fn of_users() -> Instances {
        Instances::at_most(limits::INSTANCES_OF_USERS, None)
    }

    /// Creates the set of a session of a peer. `shared` has the places for the instances of all peers.
    pub fn of_peer(shared: Gate) -> Instances {
        Instances::at_most(limits::INSTANCES_PER_SESSION, Some(shared))
    }

    fn at_most(most: usize, shared: Option<Gate>) -> Instances {
        Instances(Arc::new(Held { most, shared, slots: Mutex::default() }))
    }

    /// Reserves the place of an instance with this name, which is made next.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` if the owner has the maximum number; `OVERLOADED` if all owners together have; `BAD_ARGUMENTS` if it has
    /// one with this name.
    pub fn reserve(&self, name: Name) -> Result<Reserved> {
        let mut instances = lock(&self.0.slots);
        if instances.len() >= self.0.most {
            let message = format!("an owner may have at most {} live instances", self.0.most);
            return Err(Error::new(Code::LimitExceeded, message)
                .with_help("drop instances that you no longer need with `Node.drop`"));
        }
        if instances.contains_key(&name) {
            return Err(Error::new(Code::BadArguments, format!("an instance named `{name}` already exists")));
        }
        let place =
            self.0.shared.as_ref().map(|shared| shared.enter("live instances of other nodes")).transpose()?;
        let mark = Arc::default();
        instances.insert(name.clone(), Slot { state: State::Making(Arc::clone(&mark)), _place: place });
        Ok(Reserved { instances: self.clone(), name, mark })
    }

    /// Drops all of them.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *lock(&self.0.slots));
        drop(all);
    }

    /// Returns the instance with this name.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND`.
    pub fn get(&self, name: &Name) -> Result<Arc<Live>> {
        match lock(&self.0.slots).get(name) {
            Some(Slot { state: State::Live(live), .. }) => Ok(live.clone()),
            Some(Slot { state: State::Making(_), .. }) | None => Err(not_found(name)),
        }
    }

    /// Drops an instance. A call that runs in it continues to its end. An instance that is being made is not kept.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND`.
    pub fn remove(&self, name: &Name) -> Result<()> {
        let removed = lock(&self.0.slots).remove(name);
        removed.map(drop).ok_or_else(|| not_found(name))
    }

    /// Returns the names and the modules that they were made from, sorted by name.
    pub fn list(&self) -> Vec<(Name, String)> {
        let instances = lock(&self.0.slots);
        let titles = instances.iter().filter_map(|(name, slot)| match slot {
            Slot { state: State::Live(live), .. } => Some((name.clone(), live.title.clone())),
            Slot { state: State::Making(_), .. } => None,
        });
        let mut titles: Vec<_> = titles.collect();
        drop(instances);
        titles.sort_unstable();
        titles
    }
}

impl Slot {
    fn is_marked(&self, mark: &Arc<()>) -> bool {
        matches!(&self.state, State::Making(made) if Arc::ptr_eq(made, mark))
    }
}

impl Reserved {
    /// Puts the instance into its place.
    ///
    /// # Errors
    /// `CANCELLED` if it was dropped while it was made.
    pub fn fill(&self, made: Made) -> Result<()> {
        let Made { from, module, instance } = made;
        let mut instances = lock(&self.instances.0.slots);
        match instances.get_mut(&self.name) {
            Some(slot) if slot.is_marked(&self.mark) => {
                let cell = tokio::sync::Mutex::new(Ok(instance));
                let (title, of) = (from.to_string(), from.name().cloned());
                slot.state =
                    State::Live(Arc::new(Live { module, title, of, cell, running: Running::default() }));
                Ok(())
            }
            _ => Err(Error::new(Code::Cancelled, "the instance was dropped while it was made")
                .with_effect(Effect::RanAndFailed)),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut instances = lock(&self.instances.0.slots);
        if instances.get(&self.name).is_some_and(|slot| slot.is_marked(&self.mark)) {
            instances.remove(&self.name);
        }
    }
}

/// The error for a name that no instance has.
pub fn not_found(name: &Name) -> Error {
    Error::new(Code::InstanceNotFound, format!("no live instance is named `{name}`"))
        .with_help("list the live instances with `Node.instances()`")
}

impl Live {
    /// Returns whether no call runs in the instance.
    pub fn is_idle(&self) -> bool {
        self.cell.try_lock().is_ok()
    }

    /// Waits until it is this call's turn in the instance.
    ///
    /// # Errors
    /// `NOT_PERMITTED` if the call comes from a call that runs in the same instance.
    pub async fn enter(&self, call: Uuid, above: &[Uuid]) -> Result<Turn<'_>> {
        if !above.is_empty() && self.running.is_in(above) {
            return Err(Error::new(
                Code::NotPermitted,
                "the call comes from a call in the same instance and would wait for itself",
            ));
        }
        let cell = match self.cell.try_lock() {
            Ok(cell) => cell,
            Err(_) => self.cell.lock().await,
        };
        self.running.set(call);
        Ok(Turn { live: self, cell, ends: None })
    }
}

/// The turn of a call in an instance. It ends when this is dropped.
pub struct Turn<'a> {
    live: &'a Live,
    cell: tokio::sync::MutexGuard<'a, Result<Instance, Code>>,
    /// Why the instance is gone when the turn ends.
    ends: Option<Code>,
}

impl Turn<'_> {
    /// Returns the instance, which is gone after the turn unless [`Turn::returned`] tells otherwise: if the call is
    /// dropped while it runs, the guest has stopped at an arbitrary point.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND` if the instance is gone.
    pub fn begin(&mut self) -> Result<&mut Instance> {
        match &mut *self.cell {
            Ok(instance) => {
                self.ends = Some(Code::Cancelled);
                Ok(instance)
            }
            Err(why) => Err(gone(*why)),
        }
    }

    /// Records how the call ended. The instance is gone if the call failed after it began.
    pub fn returned<T>(&mut self, result: &Result<T>) {
        self.ends = match result {
            Err(error) if error.effect() != Effect::NotStarted => Some(error.code()),
            _ => None,
        };
    }
}

fn gone(why: Code) -> Error {
    Error::new(
        Code::InstanceNotFound,
        format!("this instance is gone because an earlier call in it ended with {why}"),
    )
    .with_help("make a new one with `Node.spawn`")
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.live.running.set(Uuid::nil());
        if let Some(why) = self.ends {
            *self.cell = Err(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(index: usize) -> Name {
        format!("i{index}").parse().unwrap()
    }

    #[test]
    fn what_is_being_made_has_its_place_and_nothing_else() {
        let held = Instances::of_peer(Gate::new(usize::MAX));
        let all: Vec<_> = (0..limits::INSTANCES_PER_SESSION).map(|index| held.reserve(name(index))).collect();
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(held.reserve(name(100)).err().unwrap().code(), Code::LimitExceeded);
        assert_eq!(held.get(&name(0)).err().unwrap().code(), Code::InstanceNotFound);
        assert!(held.list().is_empty());
        drop(all);
        let first = held.reserve(name(0)).unwrap();
        assert_eq!(held.reserve(name(0)).err().unwrap().code(), Code::BadArguments);
        // The name is free after it was removed, and its next owner keeps it.
        held.remove(&name(0)).unwrap();
        let _second = held.reserve(name(0)).unwrap();
        drop(first);
        assert_eq!(held.reserve(name(0)).err().unwrap().code(), Code::BadArguments);
    }

    #[test]
    fn owners_share_places() {
        let shared = Gate::new(2);
        let [one, other] = [(); 2].map(|()| Instances::of_peer(shared.clone()));
        let first = one.reserve(name(0)).unwrap();
        let _second = other.reserve(name(0)).unwrap();
        assert_eq!(one.reserve(name(1)).err().unwrap().code(), Code::Overloaded);
        drop(first);
        let _third = other.reserve(name(1)).unwrap();
        other.clear();
        one.reserve(name(1)).unwrap();
    }
}
