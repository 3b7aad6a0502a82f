//! Live instances: modules that keep their state between calls.
//!
//! In: modules to bring to life, calls by the instance's name. Out: outcomes. A set of instances belongs
//! to whoever holds it (this node's own people, or one session) and goes with it. Calls on an instance
//! run one after another; one that traps, or whose call is taken back while it runs, is gone. Must not
//! know: sockets, sessions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::call::ModuleRef;
use crate::engine::{Instance, Module};
use crate::error::{Code, Effect, Error, Result};
use crate::id::Name;
use crate::limits;

/// The instances of one owner. Cheap to clone; clones share them. Dropping the last clone frees them.
#[derive(Clone, Default)]
pub struct Instances(Arc<Mutex<BTreeMap<Name, Slot>>>);

enum Slot {
    /// It is being made, by whoever has this mark.
    Making(Arc<()>),
    Live(Arc<Live>),
}

/// The place of an instance that is being made, which counts as one already. Dropping it gives the place up.
pub struct Reserved {
    instances: Instances,
    name: Name,
    mark: Arc<()>,
}

/// Where the instances of a node's own people live, by the names they are called by. Cheap to clone;
/// clones share it.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<Places>>);

#[derive(Default)]
struct Places {
    made: u64,
    places: BTreeMap<Name, Place>,
}

/// Where an instance lives, and what it was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// None is here.
    pub node: Option<Name>,
    pub module: String,
}

impl Directory {
    /// A name that no instance had before: `i1`, `i2`…; none for which `taken` holds.
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

    /// Notes where an instance lives.
    pub fn add(&self, name: Name, place: Place) {
        lock(&self.0).places.insert(name, place);
    }

    /// Where the instance of this name lives, if there is one.
    pub fn get(&self, name: &Name) -> Option<Place> {
        lock(&self.0).places.get(name).cloned()
    }

    /// Forgets an instance.
    pub fn remove(&self, name: &Name) {
        lock(&self.0).places.remove(name);
    }

    /// Forgets what lived on a node that is gone: it went with the session.
    pub fn forget_node(&self, node: &Name) {
        lock(&self.0).places.retain(|_, place| place.node.as_ref() != Some(node));
    }

    /// Every instance, sorted by name.
    pub fn list(&self) -> Vec<(Name, Place)> {
        lock(&self.0).places.iter().map(|(name, place)| (name.clone(), place.clone())).collect()
    }
}

/// An instance that was brought to life and that nobody has yet; it goes with this.
pub struct Made {
    /// What it was made from.
    pub from: ModuleRef,
    pub module: Arc<Module>,
    pub instance: Instance,
}

/// One live instance.
pub struct Live {
    pub module: Arc<Module>,
    /// What it was made from, as its owner named it.
    pub title: String,
    /// The name of the stored module that it was made from; none of one that came along.
    pub of: Option<Name>,
    /// The instance while no call runs in it; why it is gone otherwise. Waiting calls queue here in order.
    cell: tokio::sync::Mutex<Result<Instance, Code>>,
    /// The call that runs in it.
    running: Mutex<Option<Uuid>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Instances {
    /// Keeps a place for an instance of this name, which is made next.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` where the owner has as many as it may; `BAD_ARGUMENTS` where it has one of that
    /// name.
    pub fn reserve(&self, name: Name) -> Result<Reserved> {
        let mut instances = lock(&self.0);
        if instances.len() >= limits::INSTANCES_PER_OWNER {
            let most = limits::INSTANCES_PER_OWNER;
            return Err(Error::new(
                Code::LimitExceeded,
                format!("{most} live instances are the most that one owner may have: drop some"),
            ));
        }
        if instances.contains_key(&name) {
            return Err(Error::new(Code::BadArguments, format!("an instance named `{name}` lives already")));
        }
        let mark = Arc::default();
        instances.insert(name.clone(), Slot::Making(Arc::clone(&mark)));
        Ok(Reserved { instances: self.clone(), name, mark })
    }

    /// Lets all of them go.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *lock(&self.0));
        drop(all);
    }

    /// The instance of this name.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND`.
    pub fn get(&self, name: &Name) -> Result<Arc<Live>> {
        match lock(&self.0).get(name) {
            Some(Slot::Live(live)) => Ok(live.clone()),
            Some(Slot::Making(_)) | None => Err(not_found(name)),
        }
    }

    /// Lets an instance go. A call that runs in it ends as it will; one that is being made is not taken in.
    ///
    /// # Errors
    /// `INSTANCE_NOT_FOUND`.
    pub fn remove(&self, name: &Name) -> Result<()> {
        lock(&self.0).remove(name).map(drop).ok_or_else(|| not_found(name))
    }

    /// Names and what they were made from, sorted by name.
    pub fn list(&self) -> Vec<(Name, String)> {
        let instances = lock(&self.0);
        let titles = instances.iter().filter_map(|(name, slot)| match slot {
            Slot::Live(live) => Some((name.clone(), live.title.clone())),
            Slot::Making(_) => None,
        });
        titles.collect()
    }
}

impl Slot {
    fn is_marked(&self, mark: &Arc<()>) -> bool {
        matches!(self, Slot::Making(made) if Arc::ptr_eq(made, mark))
    }
}

impl Reserved {
    /// Takes in the instance.
    ///
    /// # Errors
    /// `CANCELLED` where it was let go while it was made.
    pub fn fill(self, made: Made) -> Result<()> {
        let Made { from, module, instance } = made;
        let mut instances = lock(&self.instances.0);
        match instances.get_mut(&self.name) {
            Some(slot) if slot.is_marked(&self.mark) => {
                let cell = tokio::sync::Mutex::new(Ok(instance));
                let (title, of) = (from.to_string(), from.name().cloned());
                *slot = Slot::Live(Arc::new(Live { module, title, of, cell, running: Mutex::default() }));
                Ok(())
            }
            _ => Err(Error::new(Code::Cancelled, "the instance was let go while it was made")
                .with_effect(Effect::RanAndFailed)),
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut instances = lock(&self.instances.0);
        if instances.get(&self.name).is_some_and(|slot| slot.is_marked(&self.mark)) {
            instances.remove(&self.name);
        }
    }
}

/// The error of a name that no instance has.
pub fn not_found(name: &Name) -> Error {
    Error::new(
        Code::InstanceNotFound,
        format!("no live instance is named `{name}`: Node.instances() lists them"),
    )
}

impl Live {
    /// Runs `work` in the instance once it is this call's turn. Where `work` fails in a way that poisons
    /// the instance, or its future is dropped, the instance is gone.
    ///
    /// # Errors
    /// Those of `work`; `INSTANCE_NOT_FOUND` where it is gone; `NOT_PERMITTED` where the call comes from
    /// one that runs in this very instance.
    pub async fn enter<T>(
        &self,
        call: Uuid,
        above: &[Uuid],
        work: impl AsyncFnOnce(&mut Instance) -> Result<T>,
    ) -> Result<T> {
        let own = lock(&self.running).is_some_and(|running| above.contains(&running));
        if own {
            return Err(Error::new(
                Code::NotPermitted,
                "the call comes from one that runs in this very instance: it would wait for itself",
            ));
        }
        let mut cell = self.cell.lock().await;
        // Whoever drops this future in the middle leaves a guest that stopped anywhere.
        let taken = std::mem::replace(&mut *cell, Err(Code::Cancelled));
        let mut instance = match taken {
            Ok(instance) => instance,
            Err(why) => {
                *cell = Err(why);
                return Err(gone(why));
            }
        };
        *lock(&self.running) = Some(call);
        let running = Running(self);
        let result = work(&mut instance).await;
        drop(running);
        *cell = match &result {
            Err(error) if error.effect() != Effect::NotStarted => Err(error.code()),
            _ => Ok(instance),
        };
        result
    }
}

fn gone(why: Code) -> Error {
    Error::new(
        Code::InstanceNotFound,
        format!("this instance is gone: an earlier call in it ended with {why}; spawn another"),
    )
}

struct Running<'a>(&'a Live);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.0.running).take();
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
        let held = Instances::default();
        let all: Vec<_> = (0..limits::INSTANCES_PER_OWNER).map(|index| held.reserve(name(index))).collect();
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(held.reserve(name(100)).err().unwrap().code(), Code::LimitExceeded);
        assert_eq!(held.get(&name(0)).err().unwrap().code(), Code::InstanceNotFound);
        assert!(held.list().is_empty());
        drop(all);
        let first = held.reserve(name(0)).unwrap();
        assert_eq!(held.reserve(name(0)).err().unwrap().code(), Code::BadArguments);
        // The name is free once it was let go, and whoever comes next keeps it.
        held.remove(&name(0)).unwrap();
        let _second = held.reserve(name(0)).unwrap();
        drop(first);
        assert_eq!(held.reserve(name(0)).err().unwrap().code(), Code::BadArguments);
    }
}
