//! Which devices belong to a network: statements of its members, merged as a set.
//!
//! In: signed admissions and removals, in any order, from anybody. Out: the devices of the network, their names and roles.
//! Must not know: sockets, files, who is connected. Two devices that have the same statements have the same answer.
//!
//! A network begins with the founder's statement about itself. A member admits devices and removes them. An admission
//! counts if it leads back to the founder through admissions that count. A removal lists the statements of the removed
//! device that still count: those that its signer knew. So a stolen device cannot admit or remove anybody later, whatever
//! dates it writes. If two devices remove each other while they are parted, both removals count. So a stolen device can at most
//! take those with it who removed it, if it reaches anybody who does not know yet.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::key::{PublicKey, SecretKey, Signature};
use crate::base::error::{Code, Error, Result};
use crate::base::id::{Hash, MAX_NAME, Name};

/// The most statements of one network: many times the devices of a person, and a bound for what a hostile member sends.
pub const STATEMENTS: usize = 4096;

/// What a device may do in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A device of the same person.
    Member,
    /// A device of another person, which may only connect where it is named.
    Guest,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Member => "member",
            Role::Guest => "guest",
        })
    }
}

/// What a member states about a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Claim {
    Admit {
        name: Name,
        role: Role,
    },
    Remove {
        /// The statements of the removed device that still count.
        keeps: BTreeSet<Hash>,
    },
}

/// A signed claim about the device with this key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    device: PublicKey,
    claim: Claim,
    /// Who states it.
    by: PublicKey,
    /// When, in milliseconds since 1970. For people; nothing depends on it except the order of equal names.
    at_ms: i64,
    signature: Signature,
}

/// A device of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub key: PublicKey,
    /// Unique in the network. If two devices were admitted with the same name while they were parted, the later one has a
    /// number behind it.
    pub name: Name,
    pub role: Role,
    /// Who admitted it; the founder admits itself.
    pub by: PublicKey,
    pub at_ms: i64,
}

/// The statements of one network. Plain data, `Send + Sync`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    founder: PublicKey,
    statements: BTreeMap<Hash, Statement>,
}

impl Statement {
    fn sign(
        key: &SecretKey,
        network: &PublicKey,
        device: PublicKey,
        claim: Claim,
        at_ms: i64,
    ) -> Result<Statement> {
        let by = key.public();
        let signature = key.sign(&text(network, &device, &claim, &by, at_ms))?;
        Ok(Statement { device, claim, by, at_ms, signature })
    }

    fn text(&self, network: &PublicKey) -> Vec<u8> {
        text(network, &self.device, &self.claim, &self.by, self.at_ms)
    }
}

/// Returns the bytes that are signed. Every field has a fixed length, or its length in front, so that no two claims have the
/// same bytes. The network is among them: a statement counts in one network only.
fn text(network: &PublicKey, device: &PublicKey, claim: &Claim, by: &PublicKey, at_ms: i64) -> Vec<u8> {
    let mut text = b"ghost network statement 1\0".to_vec();
    for key in [network, device, by] {
        text.extend_from_slice(key.bytes());
    }
    text.extend_from_slice(&at_ms.to_le_bytes());
    match claim {
        Claim::Admit { name, role } => {
            text.push(match role {
                Role::Member => 1,
                Role::Guest => 2,
            });
            // A name has 64 bytes at most.
            text.push(name.as_str().len() as u8);
            text.extend_from_slice(name.as_str().as_bytes());
        }
        Claim::Remove { keeps } => {
            text.push(3);
            text.extend_from_slice(&(keeps.len() as u64).to_le_bytes());
            keeps.iter().for_each(|kept| text.extend_from_slice(&kept.0));
        }
    }
    text
}

impl Roster {
    /// Founds a network with this device as its only member.
    ///
    /// # Errors
    /// `INTERNAL` if the key cannot sign.
    pub fn found(key: &SecretKey, name: Name, at_ms: i64) -> Result<Roster> {
        let mut roster = Roster { founder: key.public(), statements: BTreeMap::new() };
        let claim = Claim::Admit { name, role: Role::Member };
        roster.add(Statement::sign(key, &key.public(), key.public(), claim, at_ms)?);
        Ok(roster)
    }

    /// Returns the roster of the network with this founder, without statements, to merge them into.
    pub fn of(founder: PublicKey) -> Roster {
        Roster { founder, statements: BTreeMap::new() }
    }

    /// Returns the key of the founder, which names the network.
    pub fn founder(&self) -> PublicKey {
        self.founder
    }

    /// Returns the statements.
    pub fn statements(&self) -> impl ExactSizeIterator<Item = &Statement> {
        self.statements.values()
    }

    /// Admits a device, which `key` states.
    ///
    /// # Errors
    /// `NOT_PERMITTED` if `key` is not that of a member; `BAD_ARGUMENTS` if the device is in the network or was removed
    /// from it, or another one has the name; `LIMIT_EXCEEDED`.
    pub fn admit(
        &mut self,
        key: &SecretKey,
        device: PublicKey,
        name: Name,
        role: Role,
        at_ms: i64,
    ) -> Result<()> {
        let standing = self.standing();
        self.check_member(&standing, &key.public())?;
        if standing.removed.contains(&device) {
            return Err(Error::new(Code::BadArguments, "this device was removed from the network")
                .with_help("let the device leave its network; it then joins with a new key"));
        }
        if standing.devices.contains_key(&device) {
            return Err(Error::new(Code::BadArguments, "this device belongs to the network already"));
        }
        if self.devices().iter().any(|known| known.name == name) {
            return Err(Error::new(
                Code::BadArguments,
                format!("a device of the network has the name `{name}`"),
            )
            .with_help("choose another name with `--name`"));
        }
        self.state(Statement::sign(key, &self.founder, device, Claim::Admit { name, role }, at_ms)?)
    }

    /// Removes a device, which `key` states. A device may remove itself. What the removed device has stated so far still
    /// counts.
    ///
    /// # Errors
    /// `NOT_PERMITTED` if `key` is not that of a member; `NODE_NOT_FOUND` if the device is not in the network;
    /// `LIMIT_EXCEEDED`.
    pub fn remove(&mut self, key: &SecretKey, device: PublicKey, at_ms: i64) -> Result<()> {
        let standing = self.standing();
        if key.public() != device {
            self.check_member(&standing, &key.public())?;
        }
        if !standing.devices.contains_key(&device) {
            return Err(Error::new(Code::NodeNotFound, "this device does not belong to the network"));
        }
        let of_device = self.statements.iter().filter(|(_, statement)| statement.by == device);
        let keeps = of_device.map(|(id, _)| *id).collect();
        self.state(Statement::sign(key, &self.founder, device, Claim::Remove { keeps }, at_ms)?)
    }

    fn check_member(&self, standing: &Standing<'_>, key: &PublicKey) -> Result<()> {
        match standing.devices.get(key) {
            Some(admission) if admission.admits_member() => Ok(()),
            Some(_) => {
                Err(Error::new(Code::NotPermitted, "a guest of the network cannot admit or remove devices"))
            }
            None => Err(Error::new(Code::NotPermitted, "this device does not belong to the network")),
        }
    }

    fn state(&mut self, statement: Statement) -> Result<()> {
        if self.statements.len() >= STATEMENTS {
            return Err(full());
        }
        self.add(statement);
        Ok(())
    }

    /// Adds a statement; returns whether it is new.
    fn add(&mut self, statement: Statement) -> bool {
        self.statements.insert(Hash::of(&statement.text(&self.founder)), statement).is_none()
    }

    /// Adds the statements of another device. Those with a wrong signature, and those that do not lead back to the founder,
    /// are ignored. Returns whether any was new.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` if there would be more than [`STATEMENTS`]; then nothing is added.
    pub fn merge(&mut self, statements: impl IntoIterator<Item = Statement>) -> Result<bool> {
        let mut all = self.statements.clone();
        let mut new = false;
        for statement in statements {
            let text = statement.text(&self.founder);
            let id = Hash::of(&text);
            if all.contains_key(&id) || !statement.by.verifies(&text, &statement.signature) {
                continue;
            }
            if all.len() >= STATEMENTS * 2 {
                return Err(full());
            }
            all.insert(id, statement);
            new = true;
        }
        if !new {
            return Ok(false);
        }
        // Anybody can sign with some key, and a guest with a known one. What only they say is not kept.
        let (members, guests) = speakers(&self.founder, &all);
        all.retain(|_, statement| {
            members.contains(&statement.by) || guests.contains(&statement.by) && statement.leaves()
        });
        if all.len() > STATEMENTS {
            return Err(full());
        }
        let changed = all.len() != self.statements.len();
        self.statements = all;
        Ok(changed)
    }

    /// Returns the devices of the network, sorted by name.
    pub fn devices(&self) -> Vec<Device> {
        let standing = self.standing();
        let mut devices: Vec<Device> = standing
            .devices
            .values()
            .filter_map(|statement| match &statement.claim {
                Claim::Admit { name, role } => Some(Device {
                    key: statement.device,
                    name: name.clone(),
                    role: *role,
                    by: statement.by,
                    at_ms: statement.at_ms,
                }),
                Claim::Remove { .. } => None,
            })
            .collect();
        devices.sort_by_key(|device| (device.at_ms, device.key));
        let mut taken: HashSet<Name> = devices.iter().map(|device| device.name.clone()).collect();
        let mut held = HashSet::new();
        for device in &mut devices {
            if !held.insert(device.name.clone()) {
                device.name = another(&device.name, &taken);
                taken.insert(device.name.clone());
            }
        }
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        devices
    }

    /// Returns the device with this key, if it belongs to the network.
    pub fn device(&self, key: &PublicKey) -> Option<Device> {
        self.devices().into_iter().find(|device| device.key == *key)
    }

    /// Returns whether the device with this key was removed.
    pub fn was_removed(&self, key: &PublicKey) -> bool {
        self.standing().removed.contains(key)
    }

    /// Decides which statements count.
    ///
    /// A statement counts if its signer's admission counts and no removal of its signer that counts leaves it out. That
    /// refers to itself: removals decide about removals. This is the well-founded answer: `certain` grows from nothing and
    /// `possible` shrinks from everything, each computed from the other, until neither changes. What remains undecided
    /// is devices that removed each other, in a pair or a ring. These removals count, so that none of the devices stays by
    /// being the last to speak; other statements that depend on them do not count.
    fn standing(&self) -> Standing<'_> {
        let mut certain = HashSet::new();
        let possible = loop {
            let possible = self.reached(&certain);
            let grown = self.reached(&possible);
            if grown == certain {
                break possible;
            }
            certain = grown;
        };
        let undecided: Vec<Hash> = possible.difference(&certain).copied().collect();
        let mut removals: HashSet<Hash> = certain;
        removals.extend(self.rings(&undecided));
        removals.retain(|id| self.statements.get(id).is_some_and(|statement| !statement.admits()));
        let removed: HashSet<PublicKey> =
            removals.iter().filter_map(|id| self.statements.get(id)).map(|removal| removal.device).collect();
        let accepted = self.reached(&removals);
        let mut devices = HashMap::new();
        for id in &accepted {
            let Some(statement) = self.statements.get(id).filter(|statement| statement.admits()) else {
                continue;
            };
            if removed.contains(&statement.device) {
                continue;
            }
            // A device that was admitted twice has its first admission; a member's is never lowered by another one.
            let known = devices.entry(statement.device).or_insert(statement);
            if statement.rank() < known.rank() {
                *known = statement;
            }
        }
        Standing { devices, removed }
    }

    /// Returns those of these removals that leave out each other, in a pair or a ring.
    fn rings(&self, removals: &[Hash]) -> Vec<Hash> {
        let removals: Vec<(Hash, &Statement, &BTreeSet<Hash>)> = removals
            .iter()
            .filter_map(|id| match self.statements.get(id) {
                Some(statement) => match &statement.claim {
                    Claim::Remove { keeps } => Some((*id, statement, keeps)),
                    Claim::Admit { .. } => None,
                },
                None => None,
            })
            .collect();
        let mut by: HashMap<PublicKey, Vec<usize>> = HashMap::new();
        for (place, (_, removal, _)) in removals.iter().enumerate() {
            by.entry(removal.by).or_default().push(place);
        }
        let leaves_out = |place: usize| {
            let (_, removal, keeps) = &removals[place];
            let of_device = by.get(&removal.device).into_iter().flatten().copied();
            of_device
                .filter(|other| *other != place && !keeps.contains(&removals[*other].0))
                .collect::<Vec<_>>()
        };
        let returns = |first: usize| {
            let mut seen = HashSet::new();
            let mut next = leaves_out(first);
            while let Some(place) = next.pop() {
                if place == first {
                    return true;
                }
                if seen.insert(place) {
                    next.extend(leaves_out(place));
                }
            }
            false
        };
        (0..removals.len()).filter(|place| returns(*place)).map(|place| removals[place].0).collect()
    }

    /// Returns the statements that lead back to the founder, except those that a removal among `removals` leaves out.
    fn reached(&self, removals: &HashSet<Hash>) -> HashSet<Hash> {
        let mut against: HashMap<PublicKey, Vec<(&Hash, &BTreeSet<Hash>)>> = HashMap::new();
        for id in removals {
            if let Some((id, statement)) = self.statements.get_key_value(id)
                && let Claim::Remove { keeps } = &statement.claim
            {
                against.entry(statement.device).or_default().push((id, keeps));
            }
        }
        let left_out = |id: &Hash, by: &PublicKey| {
            let removals = against.get(by).into_iter().flatten();
            removals.into_iter().any(|(removal, keeps)| *removal != id && !keeps.contains(id))
        };
        let mut by: HashMap<PublicKey, Vec<(&Hash, &Statement)>> = HashMap::new();
        for (id, statement) in &self.statements {
            by.entry(statement.by).or_default().push((id, statement));
        }
        let mut reached = HashSet::new();
        let mut heard = HashSet::from([(self.founder, true)]);
        let mut next = vec![(self.founder, true)];
        while let Some((speaker, is_member)) = next.pop() {
            for (id, statement) in by.get(&speaker).into_iter().flatten() {
                if left_out(id, &speaker) || !(is_member || statement.leaves()) {
                    continue;
                }
                reached.insert(**id);
                let admitted = (statement.device, statement.admits_member());
                if statement.admits() && heard.insert(admitted) {
                    next.push(admitted);
                }
            }
        }
        reached
    }
}

/// Returns the devices that were ever admitted, as members and as guests, whoever was removed since.
fn speakers(
    founder: &PublicKey,
    statements: &BTreeMap<Hash, Statement>,
) -> (HashSet<PublicKey>, HashSet<PublicKey>) {
    let (mut members, mut guests) = (HashSet::from([*founder]), HashSet::new());
    loop {
        let before = members.len();
        for statement in statements.values() {
            if !members.contains(&statement.by) {
                continue;
            }
            match &statement.claim {
                Claim::Admit { role: Role::Member, .. } => drop(members.insert(statement.device)),
                Claim::Admit { role: Role::Guest, .. } => drop(guests.insert(statement.device)),
                Claim::Remove { .. } => {}
            }
        }
        if members.len() == before {
            return (members, guests);
        }
    }
}

/// What counts.
struct Standing<'a> {
    /// The devices of the network, and the statement that admits each.
    devices: HashMap<PublicKey, &'a Statement>,
    removed: HashSet<PublicKey>,
}

impl Statement {
    fn admits(&self) -> bool {
        matches!(self.claim, Claim::Admit { .. })
    }

    fn admits_member(&self) -> bool {
        matches!(self.claim, Claim::Admit { role: Role::Member, .. })
    }

    /// Whether a device removes itself.
    fn leaves(&self) -> bool {
        !self.admits() && self.device == self.by
    }

    /// The order of two admissions of one device: the first one is in force.
    fn rank(&self) -> impl Ord + use<> {
        (!self.admits_member(), self.at_ms, self.by, self.signature)
    }
}

/// Returns a name that is not taken: the same with a number.
fn another(name: &Name, taken: &HashSet<Name>) -> Name {
    let mut number = 2_u32;
    loop {
        let end = format!("-{number}");
        let most = name.as_str().len().min(MAX_NAME - end.len());
        let begin = name.as_str()[..most].trim_end_matches('-');
        if let Ok(name) = format!("{begin}{end}").parse()
            && !taken.contains(&name)
        {
            return name;
        }
        number += 1;
    }
}

fn full() -> Error {
    Error::new(
        Code::LimitExceeded,
        format!("a network can have at most {STATEMENTS} admissions and removals"),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// The founder is 0; the last one is never admitted by an honest device.
    static KEYS: LazyLock<Vec<SecretKey>> =
        LazyLock::new(|| (0..7).map(|_| SecretKey::generate().unwrap()).collect());

    fn key(of: usize) -> PublicKey {
        KEYS[of].public()
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn founded() -> Roster {
        Roster::found(&KEYS[0], name("laptop"), 1).unwrap()
    }

    fn admit(roster: &mut Roster, by: usize, device: usize) {
        let called = name(&format!("device-{device}"));
        roster.admit(&KEYS[by], key(device), called, Role::Member, device as i64).unwrap();
    }

    fn names(roster: &Roster) -> Vec<String> {
        roster.devices().iter().map(|device| device.name.to_string()).collect()
    }

    fn merge(into: &mut Roster, from: &Roster) {
        into.merge(from.statements().cloned()).unwrap();
    }

    /// A statement that a hostile device signs without the checks.
    fn states(by: usize, device: usize, claim: Claim) -> Statement {
        Statement::sign(&KEYS[by], &key(0), key(device), claim, 0).unwrap()
    }

    fn admits(device: usize) -> Claim {
        Claim::Admit { name: name(&format!("device-{device}")), role: Role::Member }
    }

    fn removes() -> Claim {
        Claim::Remove { keeps: BTreeSet::new() }
    }

    #[test]
    fn members_admit_and_remove_and_guests_do_not() {
        let mut roster = founded();
        admit(&mut roster, 0, 1);
        admit(&mut roster, 1, 2);
        roster.admit(&KEYS[1], key(3), name("tablet"), Role::Guest, 5).unwrap();
        assert_eq!(names(&roster), ["device-1", "device-2", "laptop", "tablet"]);
        assert_eq!(roster.device(&key(3)).unwrap().role, Role::Guest);
        let error = roster.admit(&KEYS[3], key(4), name("x"), Role::Guest, 6).unwrap_err();
        assert_eq!(error.code(), Code::NotPermitted);
        assert_eq!(roster.remove(&KEYS[3], key(1), 6).unwrap_err().code(), Code::NotPermitted);
        assert_eq!(roster.remove(&KEYS[5], key(1), 6).unwrap_err().code(), Code::NotPermitted);
        let taken = roster.admit(&KEYS[0], key(4), name("tablet"), Role::Member, 6).unwrap_err();
        assert_eq!(taken.code(), Code::BadArguments);
        // What a removed member did before stays.
        roster.remove(&KEYS[0], key(1), 7).unwrap();
        assert_eq!(names(&roster), ["device-2", "laptop", "tablet"]);
        assert!(roster.was_removed(&key(1)));
        assert_eq!(
            roster.admit(&KEYS[0], key(1), name("x"), Role::Member, 8).unwrap_err().code(),
            Code::BadArguments
        );
        assert_eq!(roster.remove(&KEYS[0], key(1), 8).unwrap_err().code(), Code::NodeNotFound);
        // A guest may leave, and so may the founder.
        roster.remove(&KEYS[3], key(3), 9).unwrap();
        roster.remove(&KEYS[0], key(0), 10).unwrap();
        assert_eq!(names(&roster), ["device-2"]);
    }

    #[test]
    fn a_removed_device_has_no_say_any_more() {
        let mut roster = founded();
        admit(&mut roster, 0, 1);
        admit(&mut roster, 0, 2);
        roster.remove(&KEYS[0], key(1), 3).unwrap();
        // It admits an accomplice, who removes and admits others.
        let hostile = [
            states(1, 4, admits(4)),
            states(4, 2, removes()),
            states(4, 5, admits(5)),
            states(1, 2, removes()),
        ];
        let before = names(&roster);
        roster.merge(hostile).unwrap();
        assert_eq!(names(&roster), before);
    }

    #[test]
    fn what_does_not_lead_back_to_the_founder_is_ignored() {
        let mut roster = founded();
        admit(&mut roster, 0, 1);
        roster.admit(&KEYS[0], key(3), name("tablet"), Role::Guest, 5).unwrap();
        let count = roster.statements().len();
        let unknown = [
            states(6, 6, admits(6)),
            states(6, 5, admits(5)),
            states(5, 6, admits(6)),
            states(3, 4, admits(4)),
            states(3, 1, removes()),
        ];
        assert!(!roster.merge(unknown).unwrap());
        // Altered, from another network, and signed by another than it says.
        let mut renamed = states(0, 4, admits(4));
        renamed.claim = admits(5);
        let elsewhere = Statement::sign(&KEYS[0], &key(1), key(4), admits(4), 0).unwrap();
        let mut posed = states(6, 4, admits(4));
        posed.by = key(0);
        assert!(!roster.merge([renamed, elsewhere, posed]).unwrap());
        assert_eq!(roster.statements().len(), count);
    }

    #[test]
    fn devices_that_remove_each_other_are_both_removed() {
        let mut base = founded();
        admit(&mut base, 0, 1);
        admit(&mut base, 0, 2);
        let (mut one, mut two) = (base.clone(), base);
        one.remove(&KEYS[1], key(2), 5).unwrap();
        two.remove(&KEYS[2], key(1), 5).unwrap();
        let (was_one, was_two) = (one.clone(), two.clone());
        merge(&mut one, &was_two);
        merge(&mut two, &was_one);
        assert_eq!(one, two);
        assert_eq!(names(&one), ["laptop"]);
    }

    #[test]
    fn a_stolen_device_takes_nobody_with_it_but_who_removed_it() {
        let mut roster = founded();
        admit(&mut roster, 0, 1);
        admit(&mut roster, 0, 2);
        roster.remove(&KEYS[1], key(0), 5).unwrap();
        assert_eq!(names(&roster), ["device-1", "device-2"]);
        let hostile = [
            states(0, 1, removes()),
            states(0, 2, removes()),
            states(0, 4, admits(4)),
            states(4, 2, removes()),
        ];
        roster.merge(hostile).unwrap();
        assert_eq!(names(&roster), ["device-2"]);
        // A ring of three ends the same way for all of them.
        let mut ring = founded();
        (1..=4).for_each(|device| admit(&mut ring, 0, device));
        ring.merge([states(1, 2, removes()), states(2, 3, removes()), states(3, 1, removes())]).unwrap();
        assert_eq!(names(&ring), ["device-4", "laptop"]);
    }

    #[test]
    fn devices_that_admit_others_while_parted_agree_afterwards() {
        let mut base = founded();
        admit(&mut base, 0, 1);
        admit(&mut base, 0, 2);
        let mut parted = [base.clone(), base.clone(), base];
        for (by, roster) in parted.iter_mut().enumerate() {
            // Two of them choose the same name.
            let called = name(if by == 0 { "phone" } else { "pi" });
            roster.admit(&KEYS[by], key(3 + by), called, Role::Member, 10 + by as i64).unwrap();
        }
        let sets = parted.clone();
        for roster in &mut parted {
            sets.iter().rev().for_each(|other| merge(roster, other));
        }
        assert_eq!(parted[0], parted[1]);
        assert_eq!(parted[1], parted[2]);
        assert_eq!(names(&parted[0]), ["device-1", "device-2", "laptop", "phone", "pi", "pi-2"]);
        assert_eq!(parted[0].device(&key(4)).unwrap().name, name("pi"));
    }

    #[test]
    fn a_file_keeps_all_of_it() {
        let mut roster = founded();
        admit(&mut roster, 0, 1);
        roster.remove(&KEYS[0], key(1), 2).unwrap();
        let text = serde_json::to_string(&roster.statements().collect::<Vec<_>>()).unwrap();
        let mut read = Roster::of(roster.founder());
        assert!(read.merge(serde_json::from_str::<Vec<Statement>>(&text).unwrap()).unwrap());
        assert_eq!(read, roster);
    }

    #[test]
    fn a_network_has_a_bound() {
        let mut roster = founded();
        let flood: Vec<_> = (0..STATEMENTS as i64)
            .map(|at| Statement::sign(&KEYS[0], &key(0), key(1), admits(1), at).unwrap())
            .collect();
        assert_eq!(roster.merge(flood.clone()).unwrap_err().code(), Code::LimitExceeded);
        assert_eq!(roster.statements().len(), 1);
        roster.merge(flood.into_iter().take(STATEMENTS - 1)).unwrap();
        assert_eq!(
            roster.admit(&KEYS[0], key(2), name("x"), Role::Member, 0).unwrap_err().code(),
            Code::LimitExceeded
        );
    }

    #[test]
    fn a_long_name_makes_room_for_its_number() {
        let long = name(&"a".repeat(MAX_NAME));
        let next = another(&long, &HashSet::from([long.clone()]));
        assert_eq!(next.as_str(), format!("{}-2", "a".repeat(MAX_NAME - 2)));
        assert_eq!(another(&name("pi"), &HashSet::from([name("pi-2")])), name("pi-3"));
    }

    /// Who does what to whom, honestly.
    #[derive(Clone, Copy, Debug)]
    struct Deed {
        by: usize,
        device: usize,
        removes: bool,
    }

    fn deed() -> impl Strategy<Value = Deed> {
        (0..7_usize, 0..7_usize, prop::bool::weighted(0.3)).prop_map(|(by, device, removes)| Deed {
            by,
            device,
            removes,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Several copies of a network change apart from each other, and hostile devices add what they like. Whoever
        /// merges all of it has the same network, in whatever order and however often.
        #[test]
        fn merging_has_no_order(
            deeds in prop::collection::vec((0..3_usize, deed(), any::<bool>()), 0..24),
            order in prop::collection::vec(0..3_usize, 0..6),
        ) {
            let mut copies = vec![founded(); 3];
            for (copy, Deed { by, device, removes: remove }, honest) in deeds {
                let copy = &mut copies[copy];
                match (honest, remove) {
                    // Most are refused, which is right.
                    (true, false) => drop(copy.admit(&KEYS[by], key(device), name(&format!("d{device}")), Role::Member, 3)),
                    (true, true) => drop(copy.remove(&KEYS[by], key(device), 4)),
                    (false, false) => drop(copy.merge([states(by, device, admits(device))])),
                    (false, true) => drop(copy.merge([states(by, device, removes())])),
                }
            }
            let mut straight = Roster::of(key(0));
            copies.iter().for_each(|copy| merge(&mut straight, copy));
            let mut other = copies[2].clone();
            order.iter().for_each(|from| merge(&mut other, &copies[*from]));
            copies.iter().rev().for_each(|copy| merge(&mut other, copy));
            prop_assert_eq!(&straight, &other);
            prop_assert_eq!(straight.devices(), other.devices());
            // Everybody who belongs to it was admitted, and nobody belongs to it who was removed.
            for device in straight.devices() {
                prop_assert!(!straight.was_removed(&device.key));
            }
            let unique: HashSet<_> = straight.devices().into_iter().map(|device| device.name).collect();
            prop_assert_eq!(unique.len(), straight.devices().len());
        }

        /// Nothing that a removed device signs later changes the network, unless it removes who removed it.
        #[test]
        fn a_removed_device_changes_nothing(
            deeds in prop::collection::vec(deed(), 0..12),
            later in prop::collection::vec((1..7_usize, any::<bool>()), 1..8),
        ) {
            let mut roster = founded();
            admit(&mut roster, 0, 1);
            for Deed { by, device, removes: remove } in deeds {
                match remove {
                    false => drop(roster.admit(&KEYS[by], key(device), name(&format!("d{device}")), Role::Member, 3)),
                    true if by != 0 && device != 0 => drop(roster.remove(&KEYS[by], key(device), 4)),
                    true => {}
                }
            }
            prop_assume!(roster.device(&key(1)).is_some());
            roster.remove(&KEYS[0], key(1), 5).unwrap();
            let before = roster.devices();
            let hostile = later.iter().map(|(device, remove)| states(1, *device, if *remove { removes() } else { admits(*device) }));
            roster.merge(hostile.collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(roster.devices(), before);
        }
    }
}
