//! A network of simulated devices, whose course depends on nothing but its seed.
//!
//! In: a seed, latencies, a rate of loss, what happens to the devices. Out: what each device reports and when, the bytes that
//! crossed the network. Must not know: what is measured, how `gvm-gossip` works inside.
//!
//! Devices are connected as in the product, by streams of TLS over TCP: a lost packet delays what is behind it, and nothing
//! arrives out of order. A connection that a cut or a dead device breaks carries nothing more, and nobody is told.

use std::cmp::Reverse;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use gvm_gossip::{Config, Device, Event, Keys, Output, Presence, Setup};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};

/// Headers of a message: TLS 22, length 4, IP and TCP 52, and 52 for the acknowledgement.
const OVERHEAD: u64 = 22 + 4 + 52 + 52;
/// What each side sends until a connection with mutual TLS is open: certificates, signatures, headers.
const HANDSHAKE: u64 = 1800;
/// What a packet carries.
const PACKET: usize = 1400;
/// A statement of the roster, as JSON.
const STATEMENT: usize = 400;
/// TCP sends a packet again after this time and the round trip, then after twice the time, and so on.
const RETRY: Duration = Duration::from_millis(200);
/// But it does not wait longer than until the next heartbeat is acknowledged (RFC 8985).
const MOST_RETRY: Duration = Duration::from_secs(1);
/// A connection to a device that does not answer is given up after this time.
const PATIENCE: Duration = Duration::from_secs(3);

/// A stand-in for Ed25519 with signatures of the same size, because 1,000 devices would check millions of them.
pub struct Stamp(Device);

fn stamp(device: &Device, text: &[u8]) -> [u8; 64] {
    let mut hasher = DefaultHasher::new();
    (device, text).hash(&mut hasher);
    let mut signature = [0; 64];
    signature[..8].copy_from_slice(&hasher.finish().to_le_bytes());
    signature
}

impl Keys for Stamp {
    fn sign(&self, text: &[u8]) -> [u8; 64] {
        stamp(&self.0, text)
    }

    fn verifies(&self, device: &Device, text: &[u8], signature: &[u8; 64]) -> bool {
        stamp(device, text) == *signature
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Power {
    Up,
    /// The process ended and the host runs: the kernel closes the connections and refuses new ones.
    Killed,
    /// The host is gone, and nothing answers.
    Vanished,
}

pub struct Host {
    pub device: Device,
    pub power: Power,
    pub presence: Option<Presence<Stamp>>,
    /// The devices that it reports as up, with their incarnations.
    pub up: BTreeMap<Device, u64>,
    pub members: BTreeSet<usize>,
    /// Hosts with different sides of a cut do not reach each other.
    side: u8,
    /// What its clock shows when the simulation begins.
    clock: Duration,
    /// Counts the starts.
    life: u64,
    started: Duration,
    wake: Duration,
    /// The connection that it uses for each other host.
    links: BTreeMap<usize, usize>,
    /// All connections that it has not closed.
    connections: BTreeSet<usize>,
}

impl Host {
    /// Returns the payload that the host knows of a device.
    pub fn payload(&self, device: &Device) -> Option<&[u8]> {
        self.presence.as_ref()?.device(device)?.payload
    }
}

/// A connection between two hosts, as each end sees it.
struct Connection {
    ends: [usize; 2],
    lives: [u64; 2],
    open: Duration,
    /// When the last message for each end arrives.
    last: [Duration; 2],
    closed: [bool; 2],
    opened: bool,
    broken: bool,
}

#[derive(Clone)]
enum Content {
    Presence(Rc<[u8]>),
    /// The host was admitted to the network: the product sends changes of the roster from neighbour to neighbour.
    Admitted(usize),
}

enum What {
    Wake { host: usize, life: u64 },
    Opened { connection: usize },
    Refused { connection: usize },
    Arrived { connection: usize, end: usize, content: Content },
    Closed { connection: usize, end: usize },
}

struct Entry {
    at: Duration,
    number: u64,
    what: What,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What crossed the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub messages: u64,
    /// With all headers.
    pub bytes: u64,
    pub connections: u64,
}

pub struct Network {
    pub now: Duration,
    pub hosts: Vec<Host>,
    numbers: HashMap<Device, usize>,
    pub traffic: Traffic,
    /// Devices that were reported as down and were up, connected and ten seconds old.
    pub wrong: u64,
    /// A hash of all that was reported, with times.
    pub course: u64,
    config: Config,
    seed: u64,
    loss: f64,
    rng: StdRng,
    queue: BinaryHeap<Reverse<Entry>>,
    numbered: u64,
    /// The last message: what follows at the same moment is written with it.
    sent: (Duration, usize, usize),
    connections: Vec<Connection>,
    /// Hosts that reported something since they were last asked.
    reported: BTreeSet<usize>,
}

impl Network {
    /// Creates a network whose hosts are all members and not started yet.
    pub fn new(hosts: usize, loss: f64, seed: u64, config: Config) -> Network {
        let mut network = Network {
            now: Duration::ZERO,
            hosts: Vec::new(),
            numbers: HashMap::new(),
            traffic: Traffic::default(),
            wrong: 0,
            course: 0,
            config,
            seed,
            loss,
            rng: StdRng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            numbered: 0,
            sent: (Duration::MAX, 0, 0),
            connections: Vec::new(),
            reported: BTreeSet::new(),
        };
        let members: BTreeSet<usize> = (0..hosts).collect();
        for _ in 0..hosts {
            network.add(members.clone());
        }
        network
    }

    /// Adds a host that knows these members.
    pub fn add(&mut self, members: BTreeSet<usize>) -> usize {
        let mut key = [0; 32];
        self.rng.fill(&mut key);
        self.hosts.push(Host {
            device: Device(key),
            power: Power::Vanished,
            presence: None,
            up: BTreeMap::new(),
            members,
            side: 0,
            // Clocks are up to an hour apart.
            clock: Duration::from_secs(self.rng.random_range(0..3600)),
            life: 0,
            started: Duration::ZERO,
            wake: Duration::MAX,
            links: BTreeMap::new(),
            connections: BTreeSet::new(),
        });
        let host = self.hosts.len() - 1;
        self.numbers.insert(Device(key), host);
        host
    }

    /// Starts a host, or starts it again. Its incarnation is the time of its own clock.
    pub fn start(&mut self, host: usize) {
        self.join(host, Vec::new());
    }

    /// Starts a host that connects to these others first.
    pub fn join(&mut self, host: usize, contacts: Vec<usize>) {
        let contacts = contacts.into_iter().map(|contact| self.hosts[contact].device).collect();
        let members = self.devices(&self.hosts[host].members);
        let seed = self.seed ^ ((host as u64) << 32) ^ self.hosts[host].life;
        let state = &mut self.hosts[host];
        state.power = Power::Up;
        state.life += 1;
        state.started = self.now;
        state.wake = Duration::MAX;
        let clock = state.clock + self.now;
        let setup = Setup {
            network: [7; 32],
            device: state.device,
            incarnation: clock.as_millis() as u64,
            contacts,
            seed,
            config: self.config.clone(),
        };
        let mut presence = Presence::new(setup, Stamp(state.device), members, clock);
        let payload = payload(host, state.life);
        presence.set_payload(payload, clock).unwrap();
        state.presence = Some(presence);
        self.call(host, |presence, now| presence.tick(now));
    }

    /// Ends a host that says so before.
    pub fn leave(&mut self, host: usize) {
        self.call(host, |presence, now| presence.leave(now));
        self.stop(host, Power::Killed);
    }

    /// Tells a host that another one is no member any more.
    pub fn remove(&mut self, host: usize, removed: usize) {
        self.hosts[host].members.remove(&removed);
        let members = self.devices(&self.hosts[host].members);
        self.call(host, |presence, now| presence.set_members(members, now));
    }

    /// Sets a host's clock back, as it is seen at its next start.
    pub fn set_back(&mut self, host: usize, by: Duration) {
        self.hosts[host].clock = self.hosts[host].clock.saturating_sub(by);
    }

    /// Ends a host.
    pub fn stop(&mut self, host: usize, power: Power) {
        let state = &mut self.hosts[host];
        (state.power, state.presence) = (power, None);
        state.up.clear();
        state.links.clear();
        for id in std::mem::take(&mut state.connections) {
            match power {
                Power::Vanished => self.connections[id].broken = true,
                _ => self.close(id, self.end(id, host)),
            }
        }
    }

    /// Cuts the network: hosts with different sides do not reach each other from now on.
    pub fn cut(&mut self, side: impl Fn(usize) -> u8) {
        for (number, host) in self.hosts.iter_mut().enumerate() {
            host.side = side(number);
        }
        for connection in &mut self.connections {
            let [a, b] = connection.ends;
            connection.broken |= self.hosts[a].side != self.hosts[b].side;
        }
    }

    /// Changes what a host says of itself.
    pub fn say(&mut self, host: usize, payload: Vec<u8>) {
        self.call(host, |presence, now| presence.set_payload(payload, now).unwrap());
    }

    /// A member admits a new host.
    pub fn admit(&mut self, sponsor: usize, host: usize) {
        self.admitted(sponsor, host, None);
    }

    /// Lets the network run.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.queue.peek().is_some_and(|Reverse(entry)| entry.at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Lets the network run until all these hosts fulfil the condition. Returns for each, in order of time, after how long it
    /// did; fewer if the time was not enough.
    pub fn until(
        &mut self,
        hosts: impl IntoIterator<Item = usize>,
        most: Duration,
        fulfilled: impl Fn(&Host) -> bool,
    ) -> Vec<Duration> {
        let begin = self.now;
        let mut pending: BTreeSet<usize> = hosts.into_iter().collect();
        let mut times = Vec::new();
        self.reported = pending.clone();
        loop {
            for host in std::mem::take(&mut self.reported) {
                if pending.contains(&host) && fulfilled(&self.hosts[host]) {
                    pending.remove(&host);
                    times.push(self.now - begin);
                }
            }
            let next = self.queue.peek().map(|Reverse(entry)| entry.at);
            if pending.is_empty() || next.is_none_or(|next| next > begin + most) {
                return times;
            }
            self.step();
        }
    }

    /// Returns the hosts that are up.
    pub fn alive(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].power == Power::Up).collect()
    }

    /// Returns a random host that is up.
    pub fn any(&mut self) -> usize {
        self.alive().into_iter().choose(&mut self.rng).unwrap()
    }

    /// Returns whether something that has this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.rng.random_bool(probability)
    }

    fn devices(&self, hosts: &BTreeSet<usize>) -> BTreeSet<Device> {
        hosts.iter().map(|host| self.hosts[*host].device).collect()
    }

    fn push(&mut self, at: Duration, what: What) {
        self.numbered += 1;
        self.queue.push(Reverse(Entry { at, number: self.numbered, what }));
    }

    fn step(&mut self) {
        let Some(Reverse(entry)) = self.queue.pop() else { return };
        self.now = entry.at;
        match entry.what {
            What::Wake { host, life } => {
                if self.hosts[host].life == life && self.hosts[host].wake <= self.now {
                    self.hosts[host].wake = Duration::MAX;
                    self.call(host, |presence, now| presence.tick(now));
                }
            }
            What::Opened { connection } => self.opened(connection),
            What::Refused { connection } => {
                self.connections[connection].broken = true;
                self.ended(connection, 0);
            }
            What::Arrived { connection, end, content } => self.arrived(connection, end, content),
            What::Closed { connection, end } => {
                if self.carries(connection) && !self.connections[connection].closed[end] {
                    self.connections[connection].closed[end] = true;
                    self.ended(connection, end);
                }
            }
        }
    }

    /// Calls a host's presence with the time of its clock, and does what it says.
    fn call(&mut self, host: usize, f: impl FnOnce(&mut Presence<Stamp>, Duration)) {
        let clock = self.hosts[host].clock;
        let Some(presence) = &mut self.hosts[host].presence else { return };
        f(presence, clock + self.now);
        loop {
            let Some(presence) = &mut self.hosts[host].presence else { return };
            let Some(output) = presence.output() else { break };
            match output {
                Output::Send { to, bytes } => {
                    let to = self.number(&to);
                    self.transmit(host, to, Content::Presence(bytes.into()));
                }
                Output::Close(device) => {
                    let other = self.number(&device);
                    self.close_all(host, other);
                }
                Output::Event(event) => self.note(host, event),
            }
        }
        let state = &mut self.hosts[host];
        let Some(presence) = &state.presence else { return };
        let wake = presence.next_tick().saturating_sub(clock).max(self.now + Duration::from_micros(1));
        if wake < state.wake {
            state.wake = wake;
            let life = state.life;
            self.push(wake, What::Wake { host, life });
        }
    }

    fn number(&self, device: &Device) -> usize {
        self.numbers[device]
    }

    fn note(&mut self, host: usize, event: Event) {
        let mut hasher = DefaultHasher::new();
        (self.course, self.now, host, format!("{event:?}")).hash(&mut hasher);
        self.course = hasher.finish();
        match event {
            Event::Up { device, incarnation } => {
                self.hosts[host].up.insert(device, incarnation);
            }
            Event::Down { device } => {
                let other = &self.hosts[self.number(&device)];
                let connected = other.power == Power::Up && other.side == self.hosts[host].side;
                let age = Duration::from_secs(10);
                if connected && other.started + age < self.now && self.hosts[host].started + age < self.now {
                    self.wrong += 1;
                }
                self.hosts[host].up.remove(&device);
            }
            Event::Changed { .. } | Event::Superseded { .. } => {}
        }
        self.reported.insert(host);
    }

    /// The time from one host to another. It is the same in both directions and differs by a tenth from message to message.
    fn latency(&mut self, a: usize, b: usize) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.seed, a.min(b), a.max(b)).hash(&mut hasher);
        let micros = 1000 + hasher.finish() % 79_000;
        Duration::from_micros(micros).mul_f64(self.rng.random_range(1.0..1.1))
    }

    /// The time for which lost packets delay a message of this size.
    fn delay(&mut self, bytes: usize, latency: Duration) -> Duration {
        let mut most = Duration::ZERO;
        for _ in 0..bytes.div_ceil(PACKET) {
            let (mut delay, mut retry) = (Duration::ZERO, RETRY + latency * 2);
            while self.loss > 0.0 && self.rng.random_bool(self.loss) && delay < PATIENCE {
                delay += retry;
                retry = (retry * 2).min(MOST_RETRY);
            }
            most = most.max(delay);
        }
        most
    }

    fn transmit(&mut self, from: usize, to: usize, content: Content) {
        let id = match self.hosts[from].links.get(&to) {
            Some(id) => *id,
            None => self.dial(from, to),
        };
        let size = match &content {
            Content::Presence(bytes) => bytes.len(),
            Content::Admitted(_) => STATEMENT,
        };
        let together = self.sent == (self.now, from, to);
        self.sent = (self.now, from, to);
        self.traffic.messages += u64::from(!together);
        let packets = if together { size / PACKET } else { size.div_ceil(PACKET).max(1) };
        self.traffic.bytes += size as u64 + OVERHEAD * packets as u64;
        let latency = self.latency(from, to);
        let delay = self.delay(size, latency);
        let end = usize::from(self.connections[id].ends[0] == from);
        let connection = &mut self.connections[id];
        let at = (self.now.max(connection.open) + latency + delay).max(connection.last[end]);
        connection.last[end] = at;
        self.push(at, What::Arrived { connection: id, end, content });
    }

    fn dial(&mut self, from: usize, to: usize) -> usize {
        let latency = self.latency(from, to);
        // One round trip for TCP, one for TLS.
        let open = self.now + latency * 4 + self.delay(PACKET, latency) + self.delay(PACKET, latency);
        let id = self.connections.len();
        self.connections.push(Connection {
            ends: [from, to],
            lives: [self.hosts[from].life, self.hosts[to].life],
            open,
            last: [open; 2],
            closed: [false; 2],
            opened: false,
            broken: false,
        });
        self.hosts[from].links.insert(to, id);
        self.hosts[from].connections.insert(id);
        self.traffic.connections += 1;
        if self.hosts[from].side != self.hosts[to].side || self.hosts[to].power == Power::Vanished {
            self.push(self.now + PATIENCE, What::Refused { connection: id });
        } else if self.hosts[to].power == Power::Killed {
            self.push(self.now + latency * 2, What::Refused { connection: id });
        } else {
            self.traffic.bytes += HANDSHAKE * 2;
            self.push(open, What::Opened { connection: id });
        }
        id
    }

    /// Returns whether a connection carries anything: both hosts are still those that opened it.
    fn carries(&self, id: usize) -> bool {
        let connection = &self.connections[id];
        let same = |end: usize| {
            let host = &self.hosts[connection.ends[end]];
            host.life == connection.lives[end]
        };
        connection.opened && !connection.broken && same(0) && same(1)
    }

    fn opened(&mut self, id: usize) {
        let [from, to] = self.connections[id].ends;
        // A device that does not know the admission of the other one refuses it.
        let up = self.hosts[to].power == Power::Up && self.hosts[to].members.contains(&from);
        self.connections[id].opened = true;
        if !self.carries(id) || !up || self.connections[id].closed[0] {
            self.connections[id].broken = true;
            self.ended(id, 0);
            return;
        }
        self.hosts[to].links.insert(from, id);
        self.hosts[to].connections.insert(id);
        let devices = [self.hosts[from].device, self.hosts[to].device];
        self.call(from, |presence, now| presence.connected(devices[1], now));
        self.call(to, |presence, now| presence.connected(devices[0], now));
        // The product compares the rosters of two devices that connect.
        for (one, other) in [(from, to), (to, from)] {
            let missing: Vec<usize> =
                self.hosts[one].members.difference(&self.hosts[other].members).copied().collect();
            missing.into_iter().for_each(|host| self.transmit(one, other, Content::Admitted(host)));
        }
    }

    fn arrived(&mut self, id: usize, end: usize, content: Content) {
        if !self.carries(id) || self.connections[id].closed[end] {
            return;
        }
        let (host, other) = (self.connections[id].ends[end], self.connections[id].ends[1 - end]);
        let device = self.hosts[other].device;
        match content {
            Content::Presence(bytes) => {
                let mut refused = false;
                self.call(host, |presence, now| refused = presence.received(device, &bytes, now).is_err());
                assert!(!refused, "simulated devices are honest members");
            }
            Content::Admitted(admitted) => self.admitted(host, admitted, Some(other)),
        }
    }

    fn admitted(&mut self, host: usize, admitted: usize, from: Option<usize>) {
        if !self.hosts[host].members.insert(admitted) {
            return;
        }
        let members = self.devices(&self.hosts[host].members);
        self.call(host, |presence, now| presence.set_members(members, now));
        let Some(presence) = &self.hosts[host].presence else { return };
        let neighbours: Vec<usize> = presence.neighbours().map(|device| self.number(&device)).collect();
        for neighbour in neighbours.into_iter().filter(|neighbour| Some(*neighbour) != from) {
            self.transmit(host, neighbour, Content::Admitted(admitted));
        }
    }

    /// Closes the connections that a host has to another.
    fn close_all(&mut self, host: usize, other: usize) {
        self.hosts[host].links.remove(&other);
        let both: Vec<usize> = self.hosts[host]
            .connections
            .iter()
            .filter(|id| self.connections[**id].ends.contains(&other))
            .copied()
            .collect();
        for id in both {
            self.hosts[host].connections.remove(&id);
            self.close(id, self.end(id, host));
        }
    }

    fn end(&self, id: usize, host: usize) -> usize {
        usize::from(self.connections[id].ends[0] != host)
    }

    fn close(&mut self, id: usize, end: usize) {
        let connection = &mut self.connections[id];
        connection.closed[end] = true;
        let ends = connection.ends;
        let latency = self.latency(ends[0], ends[1]);
        let at = (self.now + latency).max(self.connections[id].last[1 - end]);
        self.push(at, What::Closed { connection: id, end: 1 - end });
    }

    /// Tells a host that its connection has ended, unless it has another one.
    fn ended(&mut self, id: usize, end: usize) {
        let (host, other) = (self.connections[id].ends[end], self.connections[id].ends[1 - end]);
        self.hosts[host].connections.remove(&id);
        if self.hosts[host].life == self.connections[id].lives[end]
            && self.hosts[host].links.get(&other) == Some(&id)
        {
            self.hosts[host].links.remove(&other);
            let device = self.hosts[other].device;
            self.call(host, |presence, now| presence.disconnected(device, now));
        }
    }
}

/// What a device says of itself: a few names of nodes and two addresses, about 120 bytes.
pub fn payload(host: usize, version: u64) -> Vec<u8> {
    let nodes: Vec<String> = (0..4).map(|node| format!("node-{host:04}-{node}")).collect();
    format!("{version};{};192.168.1.{}:5989;[fd00::{host:x}]:5989", nodes.join(","), host % 250).into_bytes()
}
