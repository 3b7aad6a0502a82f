//! Presence: the state machine that a gpmd of a large network drives.
//!
//! In: members, connections that opened and ended, bytes that they carried, the payload of this device, the time. Out:
//! bytes to send, connections to close, events. Must not know: sockets, clocks, what a payload means.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};

use crate::config::{Config, MOST_PARKED, MOST_PAYLOAD, PIECE};
use crate::device::{Device, Keys};
use crate::frame::{Entry, Frame};
use crate::guard::{self, Verdict};
use crate::links::Links;
use crate::overlay::{Effect, Overlay};
use crate::pull::{Ask, Pulls};
use crate::reach::Reach;
use crate::record::{Kind, Record};
use crate::table::Table;

/// Changes of the map within this time are followed together, because following the ways of 1,000 devices takes 100 µs.
const SETTLE: Duration = Duration::from_millis(100);
/// A device whose first attempt to find a neighbour failed tries so many at once.
const MORE_DIALS: usize = 3;
/// A device without neighbours slows its attempts down to this rate.
const MOST_ALONE: Duration = Duration::from_secs(5);

/// What a device needs to take part.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The network. Records of one network are worth nothing in another.
    pub network: [u8; 32],
    pub device: Device,
    /// Larger than that of each earlier start, such as the time in milliseconds. If it is not, because a clock was set
    /// back, the device learns that from the others and takes a larger one.
    pub incarnation: u64,
    /// Devices to connect to first, such as the inviter, or the neighbours before the last stop.
    pub contacts: Vec<Device>,
    /// For random choices. Two runs with the same seed and input are the same.
    pub seed: u64,
    pub config: Config,
}

/// What is to be done for a device.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes to a device, over a connection that is opened if there is none. If it cannot be opened, or ends,
    /// call `disconnected`.
    Send {
        to: Device,
        bytes: Vec<u8>,
    },
    /// Close the connections to a device, after what was sent before. `disconnected` need not be called.
    Close(Device),
    Event(Event),
}

/// What happened in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A device is up. A device that started again is first down, then up with another incarnation.
    Up { device: Device, incarnation: u64 },
    /// A device is down, has left, or is no member any more.
    Down { device: Device },
    /// A device has a new payload.
    Changed { device: Device },
    /// This device has been up with this incarnation or a later one before, and has taken the next one.
    Superseded { incarnation: u64 },
}

/// What is known of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    pub device: Device,
    /// The incarnation of a device that is up.
    pub up: Option<u64>,
    /// What the device says of itself, if it has said anything since its last known start.
    pub payload: Option<&'a [u8]>,
}

/// A device sent what no honest device sends, or is no member. Close its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device is not a member or does not follow the protocol of presence")
    }
}

impl std::error::Error for Malformed {}

/// A payload has more than 1,024 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadTooLarge(pub usize);

impl fmt::Display for PayloadTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a payload of {} bytes is too large; the limit is {MOST_PAYLOAD}", self.0)
    }
}

impl std::error::Error for PayloadTooLarge {}

/// What this device publishes of one kind.
struct Own {
    revision: u64,
    /// What it said last.
    said: Option<Vec<u8>>,
}

/// The presence of one device. All times are durations since any fixed moment, the same for all calls.
pub struct Presence<K> {
    setup: Setup,
    keys: K,
    rng: StdRng,
    members: BTreeSet<Device>,
    overlay: Overlay,
    links: Links,
    neighbours: BTreeSet<Device>,
    table: Table,
    reach: Reach,
    pulls: Pulls,
    /// What the answer of the device that is being asked has brought so far.
    news: Vec<Entry>,
    parked: VecDeque<Record>,
    own_links: Own,
    own_payload: Own,
    payload: Vec<u8>,
    /// Attempts to find a neighbour since there was one.
    attempts: u32,
    left: bool,
    last_tick: Duration,
    /// When to publish what changed.
    publish: Option<Duration>,
    published: Duration,
    /// When to follow the ways again.
    follow: Option<Duration>,
    learn: Duration,
    compare: Duration,
    dial: Duration,
    outputs: VecDeque<Output>,
}

impl<K: Keys> Presence<K> {
    /// Creates the state of a device. It does nothing before it is ticked.
    pub fn new(setup: Setup, keys: K, members: BTreeSet<Device>, now: Duration) -> Presence<K> {
        let mut rng = StdRng::seed_from_u64(setup.seed);
        let overlay = Overlay::new(setup.device, setup.config.topic(), StdRng::from_rng(&mut rng));
        let compare = now + setup.config.compare.mul_f64(rng.random_range(0.5..1.5));
        let mut presence = Presence {
            setup,
            keys,
            rng,
            members: BTreeSet::new(),
            overlay,
            links: Links::default(),
            neighbours: BTreeSet::new(),
            table: Table::new(),
            reach: Reach::default(),
            pulls: Pulls::default(),
            news: Vec::new(),
            parked: VecDeque::new(),
            own_links: Own { revision: 0, said: None },
            own_payload: Own { revision: 0, said: None },
            payload: Vec::new(),
            attempts: 0,
            left: false,
            last_tick: now,
            publish: Some(now),
            published: now,
            follow: None,
            learn: now,
            compare,
            dial: now,
            outputs: VecDeque::new(),
        };
        presence.set_members(members, now);
        presence
    }

    /// Replaces the members of the network. Connections to devices that are no members any more are closed.
    pub fn set_members(&mut self, mut members: BTreeSet<Device>, now: Duration) {
        members.insert(self.setup.device);
        self.members = members;
        let kept = self.reach.take(&self.table);
        self.table.set_members(&self.members);
        let outputs = &mut self.outputs;
        self.reach.put(kept, &self.table, &mut |event| outputs.push_back(Output::Event(event)));
        let gone: Vec<Device> =
            self.links.devices().filter(|device| !self.members.contains(device)).copied().collect();
        for device in gone {
            self.outputs.push_back(Output::Close(device));
            self.disconnected(device, now);
        }
        for record in std::mem::take(&mut self.parked) {
            self.accept(record, now);
        }
        self.follow_soon(now);
    }

    /// Sets what this device says of itself, such as its nodes. It is published at the next tick that is due.
    ///
    /// # Errors
    /// If it has more than 1,024 bytes.
    pub fn set_payload(&mut self, payload: Vec<u8>, now: Duration) -> Result<(), PayloadTooLarge> {
        if payload.len() > MOST_PAYLOAD {
            return Err(PayloadTooLarge(payload.len()));
        }
        self.payload = payload;
        self.publish_within(self.setup.config.gather, now);
        Ok(())
    }

    /// Tells the others that this device leaves, and closes its connections.
    pub fn leave(&mut self, now: Duration) {
        self.left = true;
        self.publish(now);
        let effects = self.overlay.quit(now);
        self.apply(effects, now);
    }

    /// A connection to or from a device is open, and both sides have proved their keys.
    pub fn connected(&mut self, device: Device, now: Duration) {
        self.links.opened(device, now);
    }

    /// The last connection to a device has ended, or none could be opened.
    pub fn disconnected(&mut self, device: Device, now: Duration) {
        self.links.closed(&device);
        self.pulls.forget(device);
        let effects = self.overlay.disconnected(device, now);
        self.apply(effects, now);
        // A device that is up refuses at once, so the next one can be asked at once.
        if self.neighbours.is_empty() && self.attempts > 0 {
            self.dial = self.dial.min(now + self.setup.config.gather);
        }
    }

    /// A device sent these bytes. They were the `bytes` of one `Output::Send`.
    ///
    /// # Errors
    /// If no honest member sends such bytes. Close the connection, and call `disconnected`.
    pub fn received(&mut self, from: Device, bytes: &[u8], now: Duration) -> Result<(), Malformed> {
        if !self.members.contains(&from) || self.left {
            return Err(Malformed);
        }
        self.links.heard(&from, now);
        match Frame::decode(bytes).ok_or(Malformed)? {
            Frame::Heartbeat => {}
            Frame::Overlay(message) => self.overlay_message(from, &message, now)?,
            Frame::Offer(entries) => self.pulls.offered(from, entries, now),
            Frame::Pull(sums) => self.send(from, &Frame::Summary(self.table.differing(&sums)), now),
            Frame::Summary(entries) => self.summary(from, entries, now),
            Frame::Want(wanted) => {
                let places =
                    wanted.into_iter().filter_map(|(short, kind)| Some((self.table.place(short)?, kind)));
                let records =
                    places.filter_map(|(place, kind)| self.table.record(place, kind).cloned()).collect();
                self.answer(from, records, now);
            }
            Frame::Records { records, last } => self.records(from, records, last, now),
        }
        self.pull(now);
        Ok(())
    }

    /// Does what is due. Call it when `next_tick` says so.
    pub fn tick(&mut self, now: Duration) {
        if self.left {
            return;
        }
        // After a time in which this side did nothing, such as a laptop's sleep, the others may well have sent.
        if self.last_tick + self.setup.config.heartbeat * 2 < now {
            self.links.forgive(now);
        }
        self.last_tick = now;
        while let Some(effects) = self.overlay.tick(now) {
            self.apply(effects, now);
        }
        self.watch_links(now);
        self.pulls.tick(now);
        if self.publish.is_some_and(|at| at <= now) {
            self.publish(now);
        }
        if self.follow.is_some_and(|at| at <= now) || self.reach.next().is_some_and(|at| at <= now) {
            self.follow(now);
        }
        if self.learn <= now {
            self.learn = now + self.setup.config.heartbeat;
            self.links.learn(now, |device| up(&self.table, &self.reach, device).is_some());
        }
        if self.compare <= now {
            self.compare = now + self.setup.config.compare.mul_f64(self.rng.random_range(0.5..1.5));
            if let Some(device) = self.neighbours.iter().choose(&mut self.rng) {
                self.pulls.compare(*device, now);
            }
        }
        if self.dial <= now {
            self.dial(now);
        }
        self.pull(now);
    }

    /// Returns when `tick` is to be called.
    pub fn next_tick(&self) -> Duration {
        let links = self.links.next(&self.setup.config, |device| self.neighbours.contains(device));
        let timers = [self.overlay.next(), self.pulls.next(), self.publish, self.follow, self.reach.next()];
        // At least as often as heartbeats, so that a pause is noticed.
        let fixed = [self.learn, self.compare, self.dial, self.last_tick + self.setup.config.heartbeat];
        links.into_iter().chain(timers.into_iter().flatten()).chain(fixed).min().unwrap_or_default()
    }

    /// Returns the next thing to do. Call it until there is none, after each other call.
    pub fn output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns what is known of the members other than this device.
    pub fn devices(&self) -> impl Iterator<Item = Seen<'_>> {
        let others = self.members.iter().filter(|device| **device != self.setup.device);
        others.filter_map(|device| self.device(device))
    }

    /// Returns what is known of a member.
    pub fn device(&self, device: &Device) -> Option<Seen<'_>> {
        let place = self.table.place(device.short())?;
        let incarnation = self.table.record(place, Kind::Links).map_or(0, |links| links.incarnation);
        let payload = self.table.record(place, Kind::Payload);
        let payload = payload.filter(|payload| payload.incarnation >= incarnation);
        Some(Seen {
            device: *device,
            up: self.reach.up(place),
            payload: payload.map(|payload| &payload.body[..]),
        })
    }

    /// Returns the devices that this one keeps connections to. What the product sends to all devices, such as changes of
    /// the roster, can go from neighbour to neighbour.
    pub fn neighbours(&self) -> impl Iterator<Item = Device> {
        self.neighbours.iter().copied()
    }

    /// Returns the incarnation of this device.
    pub fn incarnation(&self) -> u64 {
        self.setup.incarnation
    }

    fn overlay_message(&mut self, from: Device, bytes: &[u8], now: Duration) -> Result<(), Malformed> {
        match guard::judge(bytes) {
            Verdict::Refused => return Err(Malformed),
            Verdict::Control => {}
            // The protocol forwards before it delivers. So a record is checked here.
            Verdict::Broadcast(content) => {
                let record: Record = postcard::from_bytes(&content).map_err(|_| Malformed)?;
                // What is in the table was checked when it came first.
                let known = self.has(&record);
                if !known && !record.holds(&self.keys, &self.setup.network) {
                    return Err(Malformed);
                }
            }
        }
        let message = postcard::from_bytes(bytes).map_err(|_| Malformed)?;
        let effects = self.overlay.received(from, message, now);
        self.apply(effects, now);
        Ok(())
    }

    /// Does what `iroh-gossip` says.
    fn apply(&mut self, effects: Vec<Effect>, now: Duration) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                // Other devices may still name one that is no member any more.
                Effect::Send(to, _) if to == self.setup.device || !self.members.contains(&to) => {
                    effects.extend(self.overlay.disconnected(to, now));
                }
                Effect::Send(to, message) => {
                    let message = postcard::to_allocvec(&message).unwrap_or_default();
                    self.send(to, &Frame::Overlay(message.into()), now);
                }
                Effect::Close(device) => {
                    self.links.closed(&device);
                    self.pulls.forget(device);
                    self.outputs.push_back(Output::Close(device));
                }
                Effect::NeighbourUp(device) => {
                    self.neighbours.insert(device);
                    self.attempts = 0;
                    let known = up(&self.table, &self.reach, &device).is_some();
                    // A device that was up anyway has what this one has, or will have soon.
                    self.pulls.compare(device, if known { now + self.setup.config.calm } else { now });
                    self.pull(now);
                    self.neighbours_changed(known, now);
                }
                Effect::NeighbourDown(device) => {
                    self.neighbours.remove(&device);
                    // A connection that was closed on purpose has gone to another neighbour.
                    let harmless = self.links.contains(&device);
                    self.neighbours_changed(harmless, now);
                    // If many connections break at once, broadcasts of that time may be lost.
                    if !harmless && let Some(other) = self.neighbours.iter().choose(&mut self.rng) {
                        self.pulls.compare(*other, now + self.setup.config.calm);
                    }
                }
                Effect::Received(bytes) => {
                    if let Ok(record) = postcard::from_bytes(&bytes) {
                        self.keep(record, now);
                    }
                }
            }
        }
    }

    fn send(&mut self, to: Device, frame: &Frame, now: Duration) {
        self.links.sent(&to, now);
        self.outputs.push_back(Output::Send { to, bytes: frame.encode() });
    }

    /// Returns whether the table has exactly this record.
    fn has(&self, record: &Record) -> bool {
        let place = self.table.place(record.device.short());
        place.and_then(|place| self.table.record(place, record.kind)) == Some(record)
    }

    /// Keeps a record, if it is new and the device signed it. Returns whether it is kept.
    fn accept(&mut self, record: Record, now: Duration) -> bool {
        let news = match self.table.place(record.device.short()) {
            Some(place) => self.table.lacks(place, record.kind, record.version()),
            None => true,
        };
        news && record.holds(&self.keys, &self.setup.network) && self.keep(record, now)
    }

    /// Keeps a record that its device signed, if it is new. Returns whether it is kept.
    fn keep(&mut self, record: Record, now: Duration) -> bool {
        let (device, kind, version) = (record.device, record.kind, record.version());
        let Some(place) =
            self.table.place(device.short()).filter(|place| self.table.device(*place) == device)
        else {
            if self.parked.len() == MOST_PARKED {
                self.parked.pop_front();
            }
            self.parked.push_back(record);
            return false;
        };
        if !self.table.lacks(place, kind, version) {
            return false;
        }
        if device == self.setup.device {
            // An earlier life of this device, whose clock was ahead.
            self.setup.incarnation = version.incarnation.saturating_add(1);
            self.own_links.said = None;
            self.own_payload.said = None;
            self.publish_within(self.setup.config.gather, now);
            self.outputs.push_back(Output::Event(Event::Superseded { incarnation: self.setup.incarnation }));
            return false;
        }
        self.table.insert(place, record, version);
        match kind {
            Kind::Links => self.follow_soon(now),
            Kind::Payload => self.outputs.push_back(Output::Event(Event::Changed { device })),
        }
        true
    }

    /// Publishes the neighbours soon, or later if no device's being up depends on it: the change is `harmless`, and half of
    /// what was published still holds.
    fn neighbours_changed(&mut self, harmless: bool, now: Duration) {
        let config = &self.setup.config;
        let said = self.own_links.said.as_deref().unwrap_or_default();
        let holds = self
            .neighbours
            .iter()
            .filter(|device| said.chunks_exact(8).any(|short| device.0.starts_with(short)));
        let calm = harmless && holds.count() >= config.neighbours / 2;
        let time = if calm { config.calm } else { config.gather };
        self.publish_within(time, now);
        self.follow_soon(now);
    }

    fn publish_within(&mut self, time: Duration, now: Duration) {
        let at = (now + time).max(self.published + self.setup.config.pause);
        self.publish = Some(self.publish.map_or(at, |other| other.min(at)));
    }

    fn follow_soon(&mut self, now: Duration) {
        self.follow.get_or_insert(now + SETTLE);
    }

    /// Broadcasts what changed in what this device says.
    fn publish(&mut self, now: Duration) {
        self.publish = None;
        let neighbours = self.neighbours.iter().filter(|_| !self.left);
        let links = Record::links_body(neighbours);
        for (kind, body) in [(Kind::Links, links), (Kind::Payload, self.payload.clone())] {
            let own = match kind {
                Kind::Links => &mut self.own_links,
                Kind::Payload => &mut self.own_payload,
            };
            // A device that starts has nothing to say yet.
            let silent = body.is_empty() && own.said.is_none() && !self.left;
            if silent || own.said.as_ref() == Some(&body) {
                continue;
            }
            own.said = Some(body.clone());
            own.revision += 1;
            self.published = now;
            let number = (self.setup.incarnation, own.revision);
            let record = Record::sign(&self.keys, &self.setup.network, self.setup.device, kind, number, body);
            let bytes = postcard::to_allocvec(&record).unwrap_or_default();
            if let Some(place) = self.table.place(self.setup.device.short()) {
                let version = record.version();
                self.table.insert(place, record, version);
            }
            let effects = self.overlay.broadcast(bytes, now);
            self.apply(effects, now);
        }
    }

    fn follow(&mut self, now: Duration) {
        self.follow = None;
        let table = &self.table;
        let outputs = &mut self.outputs;
        self.reach.update(
            table,
            table.place(self.setup.device.short()),
            self.neighbours.iter().filter_map(|device| table.place(device.short())),
            (now, self.setup.config.grace),
            &mut |event| outputs.push_back(Output::Event(event)),
        );
    }

    /// Sends heartbeats, and ends connections that are silent.
    fn watch_links(&mut self, now: Duration) {
        let (due, silent) =
            self.links.due(now, &self.setup.config, |device| self.neighbours.contains(device));
        for device in due {
            self.send(device, &Frame::Heartbeat, now);
        }
        for device in silent {
            self.outputs.push_back(Output::Close(device));
            self.disconnected(device, now);
        }
    }

    /// Tries to reach devices that should be there: any, if this device has no neighbours, else one that is missing.
    fn dial(&mut self, now: Duration) {
        let config = &self.setup.config;
        let others = self.members.iter().filter(|device| **device != self.setup.device);
        let (devices, pause) = if self.neighbours.is_empty() {
            self.attempts = self.attempts.saturating_add(1);
            let pause = config.alone.mul_f64(1.0 + f64::from(self.attempts) / 10.0).min(MOST_ALONE);
            // First one alone, because each device that takes this one up gives it several neighbours.
            let most = if self.attempts == 1 { 1 } else { MORE_DIALS };
            let known = self.setup.contacts.pop().filter(|device| self.members.contains(device));
            let known = known.map(|device| vec![device]);
            (known.unwrap_or_else(|| others.copied().sample(&mut self.rng, most)), pause)
        } else {
            let missing = others.filter(|device| up(&self.table, &self.reach, device).is_none());
            let reached = u32::try_from(self.reach.count()).unwrap_or(u32::MAX);
            let pause = config.missing.saturating_mul(reached).max(config.alone * 2);
            (missing.copied().sample(&mut self.rng, 1), pause)
        };
        self.dial = now + pause.mul_f64(self.rng.random_range(0.5..1.5));
        if !devices.is_empty() {
            let effects = self.overlay.join(devices, now);
            self.apply(effects, now);
        }
    }

    /// Asks the next neighbour for records, if none is being asked.
    fn pull(&mut self, now: Duration) {
        let lacks = |entry: &Entry| lacks(&self.table, entry);
        match self.pulls.begin(now, lacks) {
            Some((device, Ask::All)) => self.send(device, &Frame::Pull(self.table.sums()), now),
            Some((device, Ask::Offered(entries))) => self.want(device, &entries, now),
            None => {}
        }
    }

    fn want(&mut self, from: Device, entries: &[Entry], now: Duration) {
        let wanted = entries.iter().map(|entry| (entry.device, entry.kind)).collect();
        self.send(from, &Frame::Want(wanted), now);
    }

    fn summary(&mut self, from: Device, mut entries: Vec<Entry>, now: Duration) {
        if !self.pulls.goes_on(from, now) {
            return;
        }
        entries.retain(|entry| lacks(&self.table, entry));
        if entries.is_empty() {
            self.pulls.end(from);
        } else {
            self.want(from, &entries, now);
        }
    }

    /// Keeps the records of an answer, and offers what was new to the other neighbours.
    fn records(&mut self, from: Device, records: Vec<Record>, last: bool, now: Duration) {
        let asked = self.pulls.goes_on(from, now);
        for record in records {
            let entry = Entry { device: record.device.short(), kind: record.kind, version: record.version() };
            if self.accept(record, now) && asked {
                self.news.push(entry);
            }
        }
        if last {
            self.pulls.end(from);
            let news = std::mem::take(&mut self.news);
            let others: Vec<Device> =
                self.neighbours.iter().filter(|other| **other != from).copied().collect();
            for other in others.into_iter().filter(|_| !news.is_empty()) {
                self.send(other, &Frame::Offer(news.clone()), now);
            }
        }
    }

    fn answer(&mut self, to: Device, records: Vec<Record>, now: Duration) {
        let (mut piece, mut size) = (Vec::new(), 0);
        let mut records = records.into_iter();
        loop {
            let next = records.next();
            if next.is_none() || size >= PIECE {
                let records = std::mem::take(&mut piece);
                self.send(to, &Frame::Records { records, last: next.is_none() }, now);
                size = 0;
            }
            let Some(record) = next else { return };
            size += record.body.len() + 128;
            piece.push(record);
        }
    }
}

/// Returns the incarnation of a device that is up.
fn up(table: &Table, reach: &Reach, device: &Device) -> Option<u64> {
    table.place(device.short()).and_then(|place| reach.up(place))
}

/// Returns whether the table lacks a record of a member that another device has.
fn lacks(table: &Table, entry: &Entry) -> bool {
    table.place(entry.device).is_some_and(|place| table.lacks(place, entry.kind, entry.version))
}
