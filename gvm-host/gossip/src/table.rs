//! The newest records of all devices of the network.
//!
//! In: members, verified records. Out: the records, and what two tables need to find their differences. Must not know:
//! signatures, connections, time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::config::{BUCKETS, MOST_LINKS};
use crate::device::{Device, Short};
use crate::frame::{Entry, Sums};
use crate::record::{Kind, Record, Version};

/// A record with its version, which is not computed twice.
struct Kept {
    record: Record,
    version: Version,
}

/// What is known of a member.
struct Slot {
    device: Device,
    links: Option<Kept>,
    payload: Option<Kept>,
}

/// The start of a member that its record of links belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub incarnation: u64,
    /// A record without neighbours is how a device says that it leaves.
    pub leaves: bool,
}

/// The places of the neighbours that a member's record lists, then `NONE`. Neighbours that are no members are left out.
type Adjacent = [u32; MOST_LINKS];
const NONE: u32 = u32::MAX;

impl Slot {
    fn kept(&self, kind: Kind) -> Option<&Kept> {
        match kind {
            Kind::Links => self.links.as_ref(),
            Kind::Payload => self.payload.as_ref(),
        }
    }
}

/// A member has a place, a small number, until the members change.
pub(crate) struct Table {
    slots: Vec<Slot>,
    places: HashMap<Short, u32>,
    /// Per place, what is needed to follow the ways: apart from the records, because that is done often.
    adjacent: Vec<Adjacent>,
    lives: Vec<Option<Life>>,
    sums: Sums,
}

fn bucket(device: Short, kind: Kind) -> usize {
    let [first, second, ..] = device.0;
    usize::from(u16::from_le_bytes([first, second]).wrapping_add(kind as u16)) % BUCKETS
}

impl Table {
    pub fn new() -> Table {
        Table {
            slots: Vec::new(),
            places: HashMap::new(),
            adjacent: Vec::new(),
            lives: Vec::new(),
            sums: Sums([0; BUCKETS]),
        }
    }

    /// Replaces the members. Records of devices that are no members any more are dropped.
    pub fn set_members(&mut self, members: &BTreeSet<Device>) {
        let mut old: BTreeMap<Device, Slot> =
            std::mem::take(&mut self.slots).into_iter().map(|slot| (slot.device, slot)).collect();
        let empty = |device| Slot { device, links: None, payload: None };
        self.slots =
            members.iter().map(|device| old.remove(device).unwrap_or_else(|| empty(*device))).collect();
        self.places = (0..).zip(members).map(|(place, device)| (device.short(), place)).collect();
        self.sums = Sums([0; BUCKETS]);
        self.adjacent = self.slots.iter().map(|slot| adjacent(&self.places, slot)).collect();
        self.lives = self.slots.iter().map(life).collect();
        for slot in &self.slots {
            for (kind, kept) in [(Kind::Links, &slot.links), (Kind::Payload, &slot.payload)] {
                if let Some(kept) = kept {
                    self.sums.0[bucket(slot.device.short(), kind)] ^= kept.version.fingerprint;
                }
            }
        }
    }

    /// Returns the place of a member.
    pub fn place(&self, device: Short) -> Option<usize> {
        self.places.get(&device).map(|place| *place as usize)
    }

    pub fn device(&self, place: usize) -> Device {
        self.slots[place].device
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the places of the neighbours that the member's record lists.
    pub fn adjacent(&self, place: usize) -> impl Iterator<Item = usize> {
        self.adjacent[place].iter().take_while(|next| **next != NONE).map(|next| *next as usize)
    }

    /// Returns the start that the member's record of links belongs to.
    pub fn life(&self, place: usize) -> Option<Life> {
        self.lives[place]
    }

    pub fn record(&self, place: usize, kind: Kind) -> Option<&Record> {
        self.slots[place].kept(kind).map(|kept| &kept.record)
    }

    /// Returns whether the table lacks this version of a member's record.
    pub fn lacks(&self, place: usize, kind: Kind, version: Version) -> bool {
        self.slots[place].kept(kind).is_none_or(|kept| kept.version < version)
    }

    /// Keeps a record of a member, if it is newer than the one that the table has.
    pub fn insert(&mut self, place: usize, record: Record, version: Version) {
        let slot = &mut self.slots[place];
        let kind = record.kind;
        let sum = &mut self.sums.0[bucket(slot.device.short(), kind)];
        let kept = match kind {
            Kind::Links => &mut slot.links,
            Kind::Payload => &mut slot.payload,
        };
        if let Some(old) = kept {
            if old.version >= version {
                return;
            }
            *sum ^= old.version.fingerprint;
        }
        *sum ^= version.fingerprint;
        *kept = Some(Kept { record, version });
        if kind == Kind::Links {
            self.adjacent[place] = adjacent(&self.places, slot);
            self.lives[place] = life(slot);
        }
    }

    /// Returns the sums of all records, per bucket.
    pub fn sums(&self) -> Sums {
        self.sums
    }

    /// Returns the versions of all records in the buckets whose sums differ from these.
    pub fn differing(&self, other: &Sums) -> Vec<Entry> {
        let mut entries = Vec::new();
        for slot in &self.slots {
            for kind in [Kind::Links, Kind::Payload] {
                let device = slot.device.short();
                let at = bucket(device, kind);
                if let Some(kept) = slot.kept(kind).filter(|_| self.sums.0[at] != other.0[at]) {
                    entries.push(Entry { device, kind, version: kept.version });
                }
            }
        }
        entries
    }
}

fn adjacent(places: &HashMap<Short, u32>, slot: &Slot) -> Adjacent {
    let mut adjacent = [NONE; MOST_LINKS];
    let links = slot.links.as_ref().map(|kept| &kept.record).into_iter().flat_map(Record::links);
    let found = links.filter_map(|short| places.get(&short).copied());
    adjacent.iter_mut().zip(found).for_each(|(cell, place)| *cell = place);
    adjacent
}

fn life(slot: &Slot) -> Option<Life> {
    let record = &slot.links.as_ref()?.record;
    Some(Life { incarnation: record.incarnation, leaves: record.body.is_empty() })
}
