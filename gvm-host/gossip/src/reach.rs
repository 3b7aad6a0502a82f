//! Which devices are up: those that a way of connections leads to.
//!
//! In: the table, the neighbours of this device, the time. Out: events. Must not know: messages, signatures.
//!
//! A connection counts if both sides list it. So a device that died is on no way once its neighbours have dropped it from
//! their records, and a partition separates the map as it separates the network.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::device::Device;
use crate::presence::Event;
use crate::record::Kind;
use crate::table::Table;

/// A device that was reported as up.
struct Shown {
    incarnation: u64,
    /// Since when no way leads to it.
    lost: Option<Duration>,
}

#[derive(Default)]
pub(crate) struct Reach {
    shown: BTreeMap<Device, Shown>,
    /// When the next device is to be reported as down.
    next: Option<Duration>,
}

impl Reach {
    /// Returns the incarnation of a device that is up.
    pub fn up(&self, device: &Device) -> Option<u64> {
        self.shown.get(device).map(|shown| shown.incarnation)
    }

    /// Returns the number of devices that are up.
    pub fn count(&self) -> usize {
        self.shown.len()
    }

    /// Returns when `update` has something to report, even if nothing changes.
    pub fn next(&self) -> Option<Duration> {
        self.next
    }

    /// Follows the ways from this device and reports what changed.
    pub fn update(
        &mut self,
        table: &Table,
        me: Device,
        neighbours: impl Iterator<Item = Device>,
        (now, grace): (Duration, Duration),
        report: &mut impl FnMut(Event),
    ) {
        let mut reached = vec![false; table.len()];
        let mut queue: Vec<usize> = neighbours
            .filter_map(|device| table.place(device.short()))
            .filter(|place| has(table, *place))
            .collect();
        queue.iter().for_each(|place| reached[*place] = true);
        while let Some(place) = queue.pop() {
            for next in table.adjacent(place).iter().map(|next| *next as usize) {
                let both = || table.adjacent(next).iter().any(|back| *back as usize == place);
                if !reached[next] && both() {
                    reached[next] = true;
                    queue.push(next);
                }
            }
        }

        self.next = None;
        for (place, reached) in reached.into_iter().enumerate() {
            let device = table.device(place);
            if device == me {
                continue;
            }
            let links = table.record(place, Kind::Links);
            if let Some(links) = links.filter(|_| reached) {
                let incarnation = links.incarnation;
                let shown = self.shown.insert(device, Shown { incarnation, lost: None });
                match shown {
                    Some(shown) if shown.incarnation == incarnation => {}
                    Some(_) => {
                        report(Event::Down { device });
                        report(Event::Up { device, incarnation });
                    }
                    None => report(Event::Up { device, incarnation }),
                }
            } else if let Some(shown) = self.shown.get_mut(&device) {
                // A record without neighbours is how a device says that it leaves.
                let left = links.is_none_or(|links| links.body.is_empty());
                let lost = *shown.lost.get_or_insert(now);
                if left || lost + grace <= now {
                    self.shown.remove(&device);
                    report(Event::Down { device });
                } else {
                    self.next = Some(self.next.map_or(lost + grace, |next| next.min(lost + grace)));
                }
            }
        }
        // Devices that are no members any more.
        self.shown.retain(|device, _| {
            let member = table.place(device.short()).is_some();
            if !member {
                report(Event::Down { device: *device });
            }
            member
        });
    }
}

/// A neighbour counts once it has said anything, and unless it has said that it leaves.
fn has(table: &Table, place: usize) -> bool {
    table.record(place, Kind::Links).is_some_and(|links| !links.body.is_empty())
}
