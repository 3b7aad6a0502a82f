//! Which devices are up: those that a way of connections leads to.
//!
//! In: the table, the neighbours of this device, the time. Out: events. Must not know: messages, signatures.
//!
//! A connection counts if both sides list it. So a device that died is on no way once its neighbours have dropped it from
//! their records, and a cut separates the map as it separates the network.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::device::Device;
use crate::presence::Event;
use crate::table::Table;

/// A device that was reported as up.
#[derive(Clone, Copy)]
struct Shown {
    incarnation: u64,
    /// Since when no way leads to it.
    lost: Option<Duration>,
}

#[derive(Default)]
pub(crate) struct Reach {
    /// By the place in the table.
    shown: Vec<Option<Shown>>,
    count: usize,
    /// When the next device is to be reported as down.
    next: Option<Duration>,
}

/// What was reported, while the places change.
pub(crate) struct Kept(BTreeMap<Device, Shown>);

impl Reach {
    /// Returns the incarnation of a device that is up.
    pub fn up(&self, place: usize) -> Option<u64> {
        self.shown.get(place).copied().flatten().map(|shown| shown.incarnation)
    }

    /// Returns the number of devices that are up.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns when `update` has something to report, even if nothing changes.
    pub fn next(&self) -> Option<Duration> {
        self.next
    }

    /// Takes out what was reported, before the members of the table change.
    pub fn take(&mut self, table: &Table) -> Kept {
        let shown = std::mem::take(&mut self.shown).into_iter().enumerate();
        Kept(shown.filter_map(|(place, shown)| Some((table.device(place), shown?))).collect())
    }

    /// Puts it back. Devices that are no members any more are down.
    pub fn put(&mut self, Kept(mut kept): Kept, table: &Table, report: &mut impl FnMut(Event)) {
        self.shown = (0..table.len()).map(|place| kept.remove(&table.device(place))).collect();
        self.count -= kept.len();
        kept.into_keys().for_each(|device| report(Event::Down { device }));
    }

    /// Follows the ways from this device and reports what changed.
    pub fn update(
        &mut self,
        table: &Table,
        me: Option<usize>,
        neighbours: impl Iterator<Item = usize>,
        (now, grace): (Duration, Duration),
        report: &mut impl FnMut(Event),
    ) {
        self.next = None;
        for (place, reached) in reached(table, neighbours).into_iter().enumerate() {
            if Some(place) == me {
                continue;
            }
            let life = table.life(place);
            let shown = &mut self.shown[place];
            match (life.filter(|_| reached), *shown) {
                (Some(life), Some(old)) if old.incarnation == life.incarnation => {
                    *shown = Some(Shown { lost: None, ..old });
                }
                (Some(life), old) => {
                    let device = table.device(place);
                    *shown = Some(Shown { incarnation: life.incarnation, lost: None });
                    match old {
                        Some(_) => report(Event::Down { device }),
                        None => self.count += 1,
                    }
                    report(Event::Up { device, incarnation: life.incarnation });
                }
                (None, Some(old)) => {
                    let end = old.lost.unwrap_or(now) + grace;
                    if end <= now || life.is_none_or(|life| life.leaves) {
                        *shown = None;
                        self.count -= 1;
                        report(Event::Down { device: table.device(place) });
                    } else {
                        *shown = Some(Shown { lost: Some(end - grace), ..old });
                        self.next = Some(self.next.map_or(end, |next| next.min(end)));
                    }
                }
                (None, None) => {}
            }
        }
    }
}

/// Returns for each place whether a way leads to it.
fn reached(table: &Table, neighbours: impl Iterator<Item = usize>) -> Vec<bool> {
    let mut reached = vec![false; table.len()];
    // A neighbour counts once it has said anything, and unless it has said that it leaves.
    let mut queue: Vec<usize> =
        neighbours.filter(|place| table.life(*place).is_some_and(|life| !life.leaves)).collect();
    queue.iter().for_each(|place| reached[*place] = true);
    while let Some(place) = queue.pop() {
        for next in table.adjacent(place) {
            if !reached[next] && table.adjacent(next).any(|back| back == place) {
                reached[next] = true;
                queue.push(next);
            }
        }
    }
    reached
}
