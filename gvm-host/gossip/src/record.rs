//! What a device says of itself, signed.
//!
//! In: the device's key, its neighbours or payload. Out: a record that nobody else can make or alter. Must not know: who
//! has which record, how it travels.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::{MOST_LINKS, MOST_PAYLOAD};
use crate::device::{Device, Keys, Short};

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// The neighbours of the device.
    Links,
    /// What the device's user of this crate says, such as its list of nodes.
    Payload,
}

/// A later version replaces an earlier one. The fingerprint orders two records that a faulty device gave the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Grows with each start of the device.
    pub incarnation: u64,
    /// Grows with each change while the device runs.
    pub revision: u64,
    pub fingerprint: u64,
}

/// A statement of a device about itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub device: Device,
    pub kind: Kind,
    pub incarnation: u64,
    pub revision: u64,
    pub body: Bytes,
    /// In two halves, because serde has no longer arrays.
    signature: ([u8; 32], [u8; 32]),
}

impl Record {
    /// Signs what this device says of itself.
    pub fn sign(
        keys: &impl Keys,
        network: &[u8; 32],
        device: Device,
        kind: Kind,
        (incarnation, revision): (u64, u64),
        body: Vec<u8>,
    ) -> Record {
        let mut record =
            Record { device, kind, incarnation, revision, body: body.into(), signature: ([0; 32], [0; 32]) };
        let signature = keys.sign(&record.text(network));
        let (first, second) = signature.split_at(32);
        record.signature.0.copy_from_slice(first);
        record.signature.1.copy_from_slice(second);
        record
    }

    /// Returns whether the device signed this record for this network, and it is within the bounds.
    pub fn holds(&self, keys: &impl Keys, network: &[u8; 32]) -> bool {
        let fits = match self.kind {
            Kind::Links => self.body.len() <= 8 * MOST_LINKS && self.body.len().is_multiple_of(8),
            Kind::Payload => self.body.len() <= MOST_PAYLOAD,
        };
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&self.signature.0);
        signature[32..].copy_from_slice(&self.signature.1);
        fits && keys.verifies(&self.device, &self.text(network), &signature)
    }

    /// Returns the bytes that are signed. All fields but the last have a fixed length.
    fn text(&self, network: &[u8; 32]) -> Vec<u8> {
        let mut text = b"ghost network presence 1\0".to_vec();
        text.extend_from_slice(network);
        text.extend_from_slice(&self.device.0);
        text.push(match self.kind {
            Kind::Links => 1,
            Kind::Payload => 2,
        });
        text.extend_from_slice(&self.incarnation.to_le_bytes());
        text.extend_from_slice(&self.revision.to_le_bytes());
        text.extend_from_slice(&self.body);
        text
    }

    pub fn version(&self) -> Version {
        let mut hash = Sha256::new();
        hash.update(self.device.0);
        hash.update([self.kind as u8]);
        hash.update(self.incarnation.to_le_bytes());
        hash.update(self.revision.to_le_bytes());
        hash.update(self.signature.0);
        hash.update(self.signature.1);
        hash.update(&self.body);
        let hash = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        Version {
            incarnation: self.incarnation,
            revision: self.revision,
            fingerprint: u64::from_le_bytes(first),
        }
    }

    /// Returns the neighbours in the body of a record of links.
    pub fn links(&self) -> impl Iterator<Item = Short> {
        self.body.chunks_exact(8).map(|chunk| {
            let mut short = [0; 8];
            short.copy_from_slice(chunk);
            Short(short)
        })
    }

    /// Returns the body of a record of links.
    pub fn links_body<'a>(neighbours: impl Iterator<Item = &'a Device>) -> Vec<u8> {
        neighbours.take(MOST_LINKS).flat_map(|device| device.short().0).collect()
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

    use super::*;

    struct Real(Ed25519KeyPair);

    impl Real {
        fn new() -> Real {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Real(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
        }

        fn device(&self) -> Device {
            Device(self.0.public_key().as_ref().try_into().unwrap())
        }
    }

    impl Keys for Real {
        fn sign(&self, text: &[u8]) -> [u8; 64] {
            self.0.sign(text).as_ref().try_into().unwrap()
        }

        fn verifies(&self, device: &Device, text: &[u8], signature: &[u8; 64]) -> bool {
            UnparsedPublicKey::new(&ED25519, device.0).verify(text, signature).is_ok()
        }
    }

    #[test]
    fn only_the_device_itself_makes_a_record() {
        let (mine, other, network) = (Real::new(), Real::new(), [1; 32]);
        let sign = |keys: &Real, device| {
            Record::sign(keys, &network, device, Kind::Payload, (3, 4), b"a node".to_vec())
        };
        let record = sign(&mine, mine.device());
        assert!(record.holds(&other, &network));
        assert!(!record.holds(&other, &[2; 32]), "it counts in one network only");
        assert!(!sign(&other, mine.device()).holds(&mine, &network), "another device cannot speak for it");

        let altered: [fn(&mut Record); 5] = [
            |record| record.kind = Kind::Links,
            |record| record.incarnation += 1,
            |record| record.revision += 1,
            |record| record.body = b"a mode".as_slice().into(),
            |record| record.signature.1[31] ^= 1,
        ];
        for alter in altered {
            let mut record = record.clone();
            alter(&mut record);
            assert!(!record.holds(&other, &network));
        }
    }

    #[test]
    fn large_records_are_refused() {
        let (keys, network) = (Real::new(), [1; 32]);
        let sign = |kind, length| Record::sign(&keys, &network, keys.device(), kind, (1, 1), vec![0; length]);
        assert!(sign(Kind::Payload, MOST_PAYLOAD).holds(&keys, &network));
        assert!(!sign(Kind::Payload, MOST_PAYLOAD + 1).holds(&keys, &network));
        assert!(sign(Kind::Links, 8 * MOST_LINKS).holds(&keys, &network));
        assert!(!sign(Kind::Links, 8 * MOST_LINKS + 8).holds(&keys, &network));
        assert!(!sign(Kind::Links, 9).holds(&keys, &network));
    }

    #[test]
    fn a_new_start_beats_any_revision() {
        let keys = Real::new();
        let version =
            |number| Record::sign(&keys, &[0; 32], keys.device(), Kind::Links, number, vec![]).version();
        assert!(version((1, 900)) < version((2, 1)));
        assert!(version((2, 1)) < version((2, 2)));
    }
}
