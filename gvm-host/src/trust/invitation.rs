//! Invitations: a line that a person carries from one device of a network to a device that joins.
//!
//! In: the key and the addresses of the inviting device, random numbers, the time. Out: the line and what it says; proofs
//! that both sides know its secret. Must not know: connections, files, the roster.
//!
//! The line names the key of the inviting device, so the joining device speaks to nobody else. Its secret convinces the
//! inviting device. A proof covers a secret of the TLS connection and both keys, so it is of no use on another connection,
//! and neither side can send the other one's proof back.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use data_encoding::BASE32_NOPAD;
use ring::hmac;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::key::PublicKey;
use super::relay::Relay;
use crate::base::error::{Code, Error, Result};
use crate::base::node::Secret;

/// What every line begins with.
pub const PREFIX: &str = "gvm-join:";

/// The layout of a line, and of one that has a relay at its end.
const FORMAT: u8 = 1;
const WITH_RELAY: u8 = 2;

/// The most addresses in a line, so that a person can still copy it and a QR code has room for it.
pub const ADDRESSES: usize = 8;

/// The longest line that is read.
const LONGEST: usize = 1024;

/// The bytes of the check at the end, which finds a line that was cut or mistyped.
const CHECK: usize = 4;

/// What the line of an invitation says.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// The key of the inviting device.
    pub inviter: PublicKey,
    pub secret: Secret,
    /// When it expires, in seconds since 1970.
    pub expires: u64,
    /// Where the inviting device can be dialled.
    pub addresses: Vec<SocketAddr>,
    /// Where the inviting device can be met if no address can be dialled.
    pub relay: Option<Relay>,
}

/// The id of an invitation, which says nothing about its secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvitationId([u8; 8]);

/// What the inviting device keeps of a secret: enough to check and to make proofs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProofKey([u8; 32]);

/// The side that makes a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Joiner,
    Inviter,
}

/// The connection that a proof is good for.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// A secret that only both ends of the TLS connection know.
    pub binding: &'a [u8],
    pub inviter: &'a PublicKey,
    pub joiner: &'a PublicKey,
}

impl Line {
    /// Returns the id of the invitation.
    pub fn id(&self) -> InvitationId {
        let digest = self.derive(b"ghost invitation id 1\0");
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        InvitationId(id)
    }

    /// Returns the key of the proofs.
    pub fn proof_key(&self) -> ProofKey {
        ProofKey(self.derive(b"ghost invitation proof 1\0"))
    }

    fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(purpose).chain_update(self.secret.bytes()).finalize().into()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![if self.relay.is_some() { WITH_RELAY } else { FORMAT }];
        bytes.extend_from_slice(self.inviter.bytes());
        bytes.extend_from_slice(self.secret.bytes());
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        let addresses = &self.addresses[..self.addresses.len().min(ADDRESSES)];
        bytes.push(addresses.len() as u8);
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&address.port().to_be_bytes());
        }
        if let Some(relay) = &self.relay {
            bytes.extend_from_slice(relay.to_string().as_bytes());
        }
        let check = Sha256::digest(&bytes);
        bytes.extend_from_slice(&check[..CHECK]);
        bytes
    }

    /// Reads the bytes of a line; `None` if they are not one that [`Line::bytes`] writes.
    fn read(bytes: &[u8]) -> Option<Line> {
        let (mut rest, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK)?)?;
        if Sha256::digest(rest)[..CHECK] != *check {
            return None;
        }
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at_checked(length)?;
            rest = left;
            Some(taken)
        };
        let format = take(1)?[0];
        if ![FORMAT, WITH_RELAY].contains(&format) {
            return None;
        }
        let inviter = PublicKey::read(take(32)?)?;
        let secret = Secret::read(take(16)?)?;
        let expires = u64::from_be_bytes(take(8)?.try_into().ok()?);
        let count = usize::from(take(1)?[0]);
        let mut addresses = Vec::new();
        for _ in 0..count {
            let ip = match take(1)? {
                [4] => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(take(4)?).ok()?)),
                [6] => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(take(16)?).ok()?)),
                _ => return None,
            };
            let port = u16::from_be_bytes(take(2)?.try_into().ok()?);
            addresses.push(SocketAddr::new(ip, port));
        }
        let relay = match format {
            WITH_RELAY => Some(std::str::from_utf8(rest).ok()?.parse().ok()?),
            _ if rest.is_empty() => None,
            _ => return None,
        };
        (count <= ADDRESSES).then_some(Line { inviter, secret, expires, addresses, relay })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.bytes()))
    }
}

/// Without the secret.
impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("id", &self.id()).field("inviter", &self.inviter).finish_non_exhaustive()
    }
}

impl FromStr for Line {
    type Err = Error;

    fn from_str(text: &str) -> Result<Line> {
        let bad = || {
            Error::new(Code::InvitationInvalid, "this is not the whole line of an invitation")
                .with_help(format!("paste the line that `gpmd invite` printed; it begins with `{PREFIX}`"))
        };
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(bad());
        }
        let encoded = text.strip_prefix(PREFIX).ok_or_else(bad)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| bad())?;
        Line::read(&bytes).ok_or_else(bad)
    }
}

impl InvitationId {
    /// Returns the id with these bytes; `None` if their number is not 8.
    pub fn read(bytes: &[u8]) -> Option<InvitationId> {
        bytes.try_into().ok().map(InvitationId)
    }

    /// Returns the bytes, for the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE32_NOPAD.encode(&self.0).to_lowercase())
    }
}

impl fmt::Debug for InvitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for InvitationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InvitationId {
    fn deserialize<D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> std::result::Result<InvitationId, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE32_NOPAD.decode(text.to_uppercase().as_bytes()).ok();
        let id = bytes.and_then(|bytes| InvitationId::read(&bytes));
        id.ok_or_else(|| serde::de::Error::custom("not the id of an invitation"))
    }
}

impl ProofKey {
    /// Proves that this side knows the secret.
    pub fn prove(&self, side: Side, bound: Bound<'_>) -> [u8; 32] {
        let tag = hmac::sign(&self.hmac(), &text(side, bound));
        let mut proof = [0; 32];
        proof.copy_from_slice(tag.as_ref());
        proof
    }

    /// Checks the proof of a side. The time does not depend on where a wrong proof differs.
    pub fn is_proven(&self, side: Side, bound: Bound<'_>, proof: &[u8]) -> bool {
        hmac::verify(&self.hmac(), &text(side, bound), proof).is_ok()
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

/// Returns the bytes that a proof covers; each part has its length in front or a fixed length.
fn text(side: Side, bound: Bound<'_>) -> Vec<u8> {
    let mut text = match side {
        Side::Joiner => b"ghost join 1 joiner\0".to_vec(),
        Side::Inviter => b"ghost join 1 inviter\0".to_vec(),
    };
    text.extend_from_slice(&(bound.binding.len() as u64).to_le_bytes());
    text.extend_from_slice(bound.binding);
    text.extend_from_slice(bound.inviter.bytes());
    text.extend_from_slice(bound.joiner.bytes());
    text
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofKey(..)")
    }
}

impl From<ProofKey> for String {
    fn from(from: ProofKey) -> String {
        URL_SAFE_NO_PAD.encode(from.0)
    }
}

impl TryFrom<String> for ProofKey {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<ProofKey, &'static str> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "not the key of an invitation")?;
        bytes.try_into().map(ProofKey).map_err(|_| "not the key of an invitation")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trust::key::SecretKey;

    fn key(of: u8) -> PublicKey {
        PublicKey::read(&[of; 32]).unwrap()
    }

    fn line(addresses: Vec<SocketAddr>) -> Line {
        Line {
            inviter: key(1),
            secret: Secret::read(&[7; 16]).unwrap(),
            expires: 1_800_000_000,
            addresses,
            relay: None,
        }
    }

    #[test]
    fn a_line_says_what_was_written() {
        let addresses = vec!["192.0.2.7:5989".parse().unwrap(), "[2001:db8::1]:6000".parse().unwrap()];
        let line = line(addresses);
        let text = line.to_string();
        assert!(text.starts_with("gvm-join:") && text.len() < 200, "{text}");
        assert_eq!(format!("  {text}\n").parse::<Line>().unwrap(), line);
        let relay = format!("gvm-relay:203.0.113.5:5990/{}", "a".repeat(52)).parse().unwrap();
        let met = Line { relay: Some(relay), ..line.clone() };
        assert_eq!(met.to_string().parse::<Line>().unwrap(), met);
        assert!(!format!("{line:?}").contains(&URL_SAFE_NO_PAD.encode([7; 16])));
    }

    #[test]
    fn a_line_that_was_cut_or_changed_is_invalid() {
        let text = line(vec!["192.0.2.7:5989".parse().unwrap()]).to_string();
        for length in 0..text.len() {
            assert_eq!(
                text[..length].parse::<Line>().unwrap_err().code(),
                Code::InvitationInvalid,
                "{length}"
            );
        }
        for place in PREFIX.len()..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(altered.parse::<Line>().is_err(), "{altered}");
        }
        assert!(format!("{text}AAAA").parse::<Line>().is_err());
        assert!(format!("gvm-join:{}", "A".repeat(100_000)).parse::<Line>().is_err());
    }

    #[test]
    fn a_proof_is_good_for_one_side_on_one_connection_between_two_keys() {
        let line = line(Vec::new());
        let (inviter, joiner, other) = (key(1), key(2), SecretKey::generate().unwrap().public());
        let bound = Bound { binding: b"tls", inviter: &inviter, joiner: &joiner };
        let proofs = line.proof_key();
        let proof = proofs.prove(Side::Joiner, bound);
        assert!(proofs.is_proven(Side::Joiner, bound, &proof));
        assert!(!proofs.is_proven(Side::Inviter, bound, &proof), "it cannot be sent back");
        for wrong in [
            Bound { binding: b"tlt", ..bound },
            Bound { inviter: &other, ..bound },
            Bound { joiner: &other, ..bound },
            Bound { inviter: &joiner, joiner: &inviter, ..bound },
        ] {
            assert!(!proofs.is_proven(Side::Joiner, wrong, &proof), "{wrong:?}");
        }
        assert!(!proofs.is_proven(Side::Joiner, bound, &proof[..31]));
        assert!(!proofs.is_proven(Side::Joiner, bound, &[]));
        let another = Line { secret: Secret::read(&[8; 16]).unwrap(), ..line.clone() };
        assert!(!another.proof_key().is_proven(Side::Joiner, bound, &proof));
        assert_ne!(another.id(), line.id());
        let kept = serde_json::to_string(&proofs).unwrap();
        assert_eq!(serde_json::from_str::<ProofKey>(&kept).unwrap(), proofs);
        assert!(!kept.contains(&URL_SAFE_NO_PAD.encode([7; 16])), "the secret itself is not kept");
    }

    proptest! {
        #[test]
        fn any_line_crosses(
            inviter: [u8; 32],
            secret: [u8; 16],
            expires: u64,
            addresses in proptest::collection::vec(any::<(std::net::IpAddr, u16)>(), 0..=ADDRESSES),
        ) {
            let addresses = addresses.into_iter().map(SocketAddr::from).collect();
            let inviter = PublicKey::read(&inviter).unwrap();
            let line = Line { inviter, secret: Secret::read(&secret).unwrap(), expires, addresses, relay: None };
            prop_assert_eq!(line.to_string().parse::<Line>().unwrap(), line);
        }

        #[test]
        fn no_text_panics(text in "(gvm-join:)?[A-Za-z0-9_-]{0,300}", bytes: Vec<u8>) {
            let _ = text.parse::<Line>();
            let mut checked = bytes;
            checked.insert(0, FORMAT);
            let check = Sha256::digest(&checked);
            checked.extend_from_slice(&check[..CHECK]);
            if let Some(line) = Line::read(&checked) {
                prop_assert_eq!(line.bytes(), checked);
            }
        }
    }
}
