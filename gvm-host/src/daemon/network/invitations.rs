//! The open invitations of this device, and their file.
//!
//! In: invitations that a person makes or revokes, applications of other devices, the time. Out: whether an application is
//! accepted. Must not know: connections, the roster. The file has no secrets, only what checks them; mode 0600.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use crate::base::durable;
use crate::base::error::{Code, Error, Result};
use crate::base::home::Home;
use crate::base::id::Name;
use crate::trust::invitation::{Bound, InvitationId, ProofKey, Side};
use crate::trust::key::PublicKey;
use crate::trust::roster::Role;

/// The most invitations that are open at once.
const MOST: usize = 64;

/// An open invitation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    pub id: InvitationId,
    proof_key: ProofKey,
    pub role: Role,
    /// The name of the device that will join. `None` if it chooses its own.
    pub name: Option<Name>,
    /// In milliseconds since 1970.
    pub expires_ms: i64,
    /// Who used it. The same device may ask again until the invitation expires, because it may not have got the answer.
    used_by: Option<PublicKey>,
}

/// The open invitations. Plain data with one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitations {
    open: BTreeMap<InvitationId, Invitation>,
}

/// An application that was accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    pub role: Role,
    pub name: Option<Name>,
    /// What proves to the joining device that this one knows the secret.
    pub proof: [u8; 32],
    /// Whether the same device has used the invitation before.
    pub again: bool,
}

impl Invitation {
    /// Creates an invitation.
    pub fn new(
        id: InvitationId,
        proof_key: ProofKey,
        role: Role,
        name: Option<Name>,
        expires_ms: i64,
    ) -> Invitation {
        Invitation { id, proof_key, role, name, expires_ms, used_by: None }
    }

    /// Returns whether it has not expired and the applicant knows its secret.
    fn is_proven(&self, bound: Bound<'_>, proof: &[u8], now_ms: i64) -> bool {
        self.expires_ms > now_ms && self.proof_key.is_proven(Side::Joiner, bound, proof)
    }
}

impl Invitations {
    /// Adds an invitation.
    ///
    /// # Errors
    /// `LIMIT_EXCEEDED` if there are too many.
    pub fn add(&mut self, invitation: Invitation, now_ms: i64) -> Result<()> {
        self.sweep(now_ms);
        // Those that were used are kept for devices that did not get their answer; they are forgotten first.
        let used = self.open.iter().filter(|(_, known)| known.used_by.is_some());
        let oldest = used.min_by_key(|(_, known)| known.expires_ms).map(|(id, _)| *id);
        if self.open.len() >= MOST
            && let Some(oldest) = oldest
        {
            self.open.remove(&oldest);
        }
        if self.open.len() >= MOST {
            let sentence = format!("there are {MOST} invitations already");
            return Err(Error::new(Code::LimitExceeded, sentence)
                .with_help("revoke one: `gpmd invitations` lists them"));
        }
        self.open.insert(invitation.id, invitation);
        Ok(())
    }

    /// Returns the invitations that nobody has used and that have not expired.
    pub fn open(&self, now_ms: i64) -> impl Iterator<Item = &Invitation> {
        self.open.values().filter(move |known| known.used_by.is_none() && known.expires_ms > now_ms)
    }

    /// Returns when the next open invitation expires.
    pub fn next_expiry(&self, now_ms: i64) -> Option<i64> {
        self.open(now_ms).map(|invitation| invitation.expires_ms).min()
    }

    /// Revokes the open invitation whose id begins like this. Returns its id.
    ///
    /// # Errors
    /// `INVITATION_INVALID` if there is none, or more than one.
    pub fn revoke(&mut self, begin: &str, now_ms: i64) -> Result<InvitationId> {
        let begin = begin.to_ascii_lowercase();
        let fits = |invitation: &&Invitation| invitation.id.to_string().starts_with(&begin);
        let found: Vec<_> = self.open(now_ms).filter(fits).map(|invitation| invitation.id).take(2).collect();
        match found.as_slice() {
            [id] if !begin.is_empty() => {
                self.open.remove(id);
                Ok(*id)
            }
            [_, _] => Err(Error::new(
                Code::InvitationInvalid,
                format!("several invitations have an id that begins with `{begin}`"),
            )
            .with_help("write more characters of the id")),
            _ => Err(Error::new(Code::InvitationInvalid, format!("no open invitation has the id `{begin}`"))
                .with_help("list the open invitations with `gpmd invitations`")),
        }
    }

    /// Decides about an application. An accepted one uses the invitation: the caller stores that before it admits the device.
    ///
    /// # Errors
    /// `INVITATION_INVALID`, with the same words for every cause.
    pub fn accept(
        &mut self,
        id: InvitationId,
        bound: Bound<'_>,
        proof: &[u8],
        now_ms: i64,
    ) -> Result<Accepted> {
        let known = self.open.get_mut(&id).filter(|known| known.is_proven(bound, proof, now_ms));
        let known = known.filter(|known| known.used_by.is_none_or(|by| by == *bound.joiner));
        let Some(known) = known else { return Err(invalid()) };
        let again = known.used_by.replace(*bound.joiner).is_some();
        let proof = known.proof_key.prove(Side::Inviter, bound);
        Ok(Accepted { role: known.role, name: known.name.clone(), proof, again })
    }

    /// Returns whether the applicant knows the secret of an invitation that nobody has used.
    pub fn is_open_to(&self, id: InvitationId, bound: Bound<'_>, proof: &[u8], now_ms: i64) -> bool {
        let known = self.open.get(&id).filter(|known| known.used_by.is_none());
        known.is_some_and(|known| known.is_proven(bound, proof, now_ms))
    }

    /// Forgets invitations that have expired.
    fn sweep(&mut self, now_ms: i64) {
        self.open.retain(|_, known| known.expires_ms > now_ms);
    }

    /// Reads the invitations of a home.
    ///
    /// # Errors
    /// `INTERNAL` if the file cannot be read or understood.
    pub fn read(home: &Home) -> Result<Invitations> {
        let path = home.invitations();
        match durable::read_text(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| {
                Error::internal(format!("`{}` is damaged: {error}", path.display()))
                    .with_help("remove the file; this revokes all invitations")
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Invitations::default()),
            Err(error) => Err(Error::io(format_args!("cannot read `{}`", path.display()), error)),
        }
    }

    /// Writes the invitations. They are durable when this returns.
    ///
    /// # Errors
    /// `STORAGE_FULL`, `INTERNAL`.
    pub fn write(&self, home: &Home) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::internal(format!("cannot write the invitations: {error}")))?;
        durable::write(&home.invitations(), (text + "\n").as_bytes())
    }
}

/// The error of every application that is not accepted: a stranger does not learn why.
pub fn invalid() -> Error {
    Error::new(
        Code::InvitationInvalid,
        "this invitation is not open: it was used, has expired or was revoked",
    )
    .with_help("run `gpmd invite` again on a device of the network")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::base::node::Secret;
    use crate::trust::invitation::Line;

    fn key(of: u8) -> PublicKey {
        PublicKey::read(&[of; 32]).unwrap()
    }

    fn line(secret: u8) -> Line {
        let secret = Secret::read(&[secret; 16]).unwrap();
        Line { inviter: key(1), secret, expires: 0, addresses: Vec::new(), relay: None }
    }

    fn invited(line: &Line) -> Invitations {
        let mut invitations = Invitations::default();
        let (id, key) = (line.id(), line.proof_key());
        invitations.add(Invitation::new(id, key, Role::Guest, None, 100), 0).unwrap();
        invitations
    }

    #[test]
    fn an_invitation_is_good_for_one_device_until_it_expires() {
        let line = line(7);
        let mut invitations = invited(&line);
        let (inviter, pi, tv) = (key(1), key(2), key(3));
        let bound = |joiner| Bound { binding: b"tls", inviter: &inviter, joiner };
        let proof = |joiner| line.proof_key().prove(Side::Joiner, bound(joiner));
        let mut accept = |joiner, proof: &[u8], now| invitations.accept(line.id(), bound(joiner), proof, now);
        let refused = accept(&pi, &proof(&tv), 1).unwrap_err();
        assert_eq!(accept(&pi, &proof(&pi), 100).unwrap_err().to_string(), refused.to_string(), "expired");
        let accepted = accept(&pi, &proof(&pi), 1).unwrap();
        assert!(!accepted.again && accepted.role == Role::Guest);
        assert!(line.proof_key().is_proven(Side::Inviter, bound(&pi), &accepted.proof));
        assert_eq!(accept(&tv, &proof(&tv), 1).unwrap_err().to_string(), refused.to_string(), "used");
        assert!(accept(&pi, &proof(&pi), 1).unwrap().again, "the first answer may have been lost");
        assert!(accept(&pi, &proof(&pi), 101).is_err());
        assert_eq!(invitations.open(1).count(), 0);
        let unknown = invitations.accept(super::tests::line(8).id(), bound(&tv), &[0; 32], 1).unwrap_err();
        assert_eq!(unknown.to_string(), refused.to_string());
    }

    #[test]
    fn used_invitations_leave_room_for_new_ones() {
        let mut invitations = Invitations::default();
        let add = |invitations: &mut Invitations, number: u8| {
            let line = line(number);
            invitations.add(Invitation::new(line.id(), line.proof_key(), Role::Member, None, 100), 0)
        };
        (0..MOST as u8).for_each(|number| add(&mut invitations, number).unwrap());
        assert_eq!(add(&mut invitations, 100).unwrap_err().code(), Code::LimitExceeded);
        let (inviter, pi, used) = (key(1), key(2), line(5));
        let bound = Bound { binding: b"tls", inviter: &inviter, joiner: &pi };
        let proof = used.proof_key().prove(Side::Joiner, bound);
        invitations.accept(used.id(), bound, &proof, 1).unwrap();
        add(&mut invitations, 100).unwrap();
        assert_eq!(invitations.open(1).count(), MOST);
        assert_eq!(add(&mut invitations, 101).unwrap_err().code(), Code::LimitExceeded);
    }

    #[test]
    fn a_revoked_invitation_is_gone() {
        let (one, two) = (line(1), line(2));
        let mut invitations = invited(&one);
        invitations.add(Invitation::new(two.id(), two.proof_key(), Role::Member, None, 100), 0).unwrap();
        assert_eq!(invitations.next_expiry(0), Some(100));
        assert_eq!(invitations.revoke("", 0).unwrap_err().code(), Code::InvitationInvalid);
        let id = one.id().to_string();
        assert_eq!(invitations.revoke(&id[..10].to_uppercase(), 0).unwrap(), one.id());
        assert_eq!(invitations.revoke(&id, 0).unwrap_err().code(), Code::InvitationInvalid);
        assert_eq!(invitations.open(0).map(|open| open.id).collect::<Vec<_>>(), [two.id()]);
        assert_eq!(invitations.next_expiry(100), None);
    }

    #[test]
    fn the_file_is_private_and_has_no_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().join("home")).unwrap();
        assert_eq!(Invitations::read(&home).unwrap(), Invitations::default());
        let line = line(9);
        let invitations = invited(&line);
        invitations.write(&home).unwrap();
        assert_eq!(Invitations::read(&home).unwrap(), invitations);
        assert_eq!(fs::metadata(home.invitations()).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(home.invitations()).unwrap();
        assert!(!text.contains(&line.to_string()[50..]), "{text}");
    }

    #[test]
    fn their_number_is_bounded() {
        let mut invitations = Invitations::default();
        for secret in 0..MOST {
            let line = line(secret as u8);
            let open = Invitation::new(line.id(), line.proof_key(), Role::Member, None, 100);
            invitations.add(open, 0).unwrap();
        }
        let line = line(200);
        let more = Invitation::new(line.id(), line.proof_key(), Role::Member, None, 300);
        assert_eq!(invitations.add(more.clone(), 0).unwrap_err().code(), Code::LimitExceeded);
        invitations.add(more, 100).unwrap();
        assert_eq!(invitations.open(100).count(), 1);
    }
}
